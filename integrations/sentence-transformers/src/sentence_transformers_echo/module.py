"""Echo and late echo as the input module of a SentenceTransformer; stock ``Pooling`` and ``Normalize`` follow it.

The module knows no losses. All that it says about a batch is in the features, tensors of shape ``[batch, tokens]`` that
losses may slice by rows, trim and join. So gradient caching and losses over several columns stay exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.model import BaseModel
from sentence_transformers.base.modules import InputModule
from torch import Tensor
from transformers import PreTrainedModel

from echo_embeddings import ConfigError, EchoConfig, Lexical, ModelError, NumericalError, notices
from echo_embeddings.config.files import CONFIG_FILE
from echo_embeddings.engine.runtime import Runtime
from echo_embeddings.forward.pooling import POOLINGS
from echo_embeddings.model import manifest
from echo_embeddings.model.loading import LoadedModel
from echo_embeddings.saving import written
from echo_embeddings.text.inputs import checked
from echo_embeddings.text.layout import Content, Layout
from echo_embeddings.text.truncation import ON_TRUNCATE, Truncated, TruncationCount, in_one_call
from echo_embeddings.types import Role

from . import batches, card, weights
from .model import adopt

__all__ = ["EchoModule"]


class EchoModule(InputModule):
    """The module that runs an ``EchoConfig`` and returns the token vectors of the copy that is pooled.

    ``encode_query`` uses the query template, everything else the document template. A ``prompt`` is the instruction of
    a template with ``{instruction}``; with any other template it stands once, in front of it, and is not repeated.

    The config's transforms are applied to the token vectors, before pooling. The result is the same as after it,
    because transforms are affine and the weights of every pooling sum to one. If the config has a lexical part, each
    token vector is joined with the lexical part of the whole text.

    Args:
        model: the body of a causal model. Its layers up to the exit are shared, not copied.
        tokenizer: its fast tokenizer.
        config: what to run.
        merged_adapter: the name of the packaged adapter that is merged into ``model``; ``None`` (the default) for none.

    Raises:
        ConfigError: the config was trained with a packaged adapter that is not merged into ``model``.
    """

    config_file_name = CONFIG_FILE
    forward_kwargs = {"instruction"}  # noqa: RUF012  (as the base class has it)

    def __init__(
        self, model: PreTrainedModel, tokenizer: Any, config: EchoConfig, merged_adapter: str | None = None
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        layers = config.layers(model.config.get_text_config().num_hidden_layers)
        self.merged_adapter = merged_adapter
        #: The user's adapter that is merged into the weights, if there is one; ``from_encoder`` sets it.
        self.own_adapter: str | None = None
        self.tokenizer = tokenizer
        self._runtime = Runtime(LoadedModel(model, tokenizer, merged_adapter), weights.in_numbers(config, layers))
        self.model = self._runtime.backbone.model
        #: How many texts and tokens have been truncated so far, in this process.
        self.truncated = Truncated()
        self.on_truncate = "warn"

    @property
    def runtime(self) -> Runtime:
        """The runtime, with tokenizer, backbone and layouts."""
        return self._runtime

    @property
    def echo_config(self) -> EchoConfig:
        """The config that is run, with layers as numbers."""
        return self._runtime.config

    @property
    def auto_model(self) -> PreTrainedModel:
        """The transformers model without the layers above the exit."""
        model: PreTrainedModel = self.model
        return model

    @property
    def max_seq_length(self) -> int:
        """The most content tokens of a document. The model's input is longer: all copies of them, and the template."""
        return self._runtime.limit("document")

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self.change(max_length=value)

    @property
    def max_length(self) -> int:
        """``max_seq_length`` under the name that it has in ``EchoEncoder``."""
        return self.max_seq_length

    @max_length.setter
    def max_length(self, value: int) -> None:
        self.max_seq_length = value

    @property
    def on_truncate(self) -> str:
        """What to do with longer texts: ``"warn"`` once a call of ``encode``, raise an ``"error"``, or ``"ignore"``."""
        return self._on_truncate

    @on_truncate.setter
    def on_truncate(self, value: str) -> None:
        if value == "split":
            raise ConfigError(
                "on_truncate='split': sentence-transformers gives each text one pass of the model; embed long texts "
                "with EchoEncoder(on_truncate='split') or its encode_chunks, or split them before"
            )
        if value not in ON_TRUNCATE:
            known = ", ".join(policy for policy in ON_TRUNCATE if policy != "split")
            raise ConfigError(f"on_truncate={value!r} is unknown; choose one of {known}")
        self._on_truncate = value

    def change(self, **fields: Any) -> None:
        """Replace fields of the config, but not those that choose layers."""
        self._runtime = self._made(self.echo_config.replace(**fields))

    def _made(self, config: EchoConfig) -> Runtime:
        return Runtime(LoadedModel(self.auto_model, self.tokenizer, self.merged_adapter), config)

    def get_config_dict(self) -> dict[str, Any]:
        """The config as a dict, for ``repr`` and model cards."""
        return self.echo_config.to_dict()

    def get_embedding_dimension(self) -> int:
        """Number of dimensions of a token vector, after the transforms."""
        return self._runtime.dimension

    def preprocess(
        self,
        inputs: Sequence[Any],
        prompt: str | None = None,
        task: str | None = None,
        instruction: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Tensor]:
        """Tokenise texts into the features of a batch, which ``batches`` describes.

        Args:
            inputs: the texts.
            prompt: the instruction, or a text in front of a template that has no ``{instruction}``.
            task: ``"query"`` for the query template; anything else for the document template.
            instruction: the task, for a template with ``{instruction}``.
            kwargs: must be ``None``.

        Raises:
            ValueError: an input is not a string, the template has no ``{instruction}``, or an argument is unknown. It
                is never a ``TypeError``: sentence-transformers would catch that and put the prompt before the text.
        """
        if unknown := sorted(name for name, value in kwargs.items() if value is not None):
            raise ValueError(f"EchoModule has no use for {unknown[0]!r}; it takes prompt, task and instruction")
        role: Role = "query" if task == "query" else "document"
        try:
            contents, layout = self.count(inputs, prompt, task, instruction)
        except TypeError as error:
            raise ValueError(str(error)) from error
        ids = [content.ids for content in contents]
        features = batches.lay_out(ids, layout)
        if self.echo_config.lexical is not None:
            weight = self.echo_config.lexical.weight(role)
            features[batches.WORDS] = batches.words(ids, layout, weight, features["input_ids"])
        return features

    def count(
        self, inputs: Sequence[Any], prompt: str | None, task: str | None, instruction: str | None
    ) -> tuple[list[Content], Layout]:
        """Tokenise texts, and count those that are truncated; the arguments are those of :meth:`preprocess`.

        A warning is said once for each call of ``encode``. Outside of one, as in training, only the first is said.

        Returns:
            The tokens of each text, and the compiled template.

        Raises:
            TypeError: an input or the instruction is not a string.
            ValueError: prompt, instruction and template do not fit.
            TruncationError: a text is too long and ``on_truncate`` is ``"error"``.
        """
        texts = checked(inputs)
        template = self.echo_config.template_for("query" if task == "query" else "document")
        template, instruction = batches.with_prompt(template, prompt, instruction)
        layout = self._runtime.layout(template, instruction)
        contents = self._runtime.contents(texts, template, instruction)
        said = self.on_truncate == "warn" and self.truncated.texts > 0 and not in_one_call()
        policy = "ignore" if said else self.on_truncate
        truncation = TruncationCount(
            policy, self.echo_config.max_length, "model.max_seq_length", "model[0].on_truncate = 'ignore'", ""
        )
        try:
            truncation.add(texts, contents, self._runtime.limit_of(layout))
        finally:
            self.truncated = truncation.total(self.truncated)
        truncation.warn()
        return contents, layout

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Run the model: adds the pooled tokens' ``token_embeddings`` (float32), and an ``attention_mask`` for them.

        Raises:
            NumericalError: a vector has NaN or infinity in it, and this is no training.
        """
        del kwargs  # the instruction is in the token ids
        states = batches.in_groups(features, self._run, self.model.dtype)
        mask = batches.pooled_mask(features["echo_pooled"]).to(states.device)
        if not self.training and not states[mask.bool()].isfinite().all():
            raise NumericalError(
                f"the model (in {self.model.dtype}) or a transform of its config gave NaN or infinity; try float32, "
                "or fit the transforms again"
            )
        return {**features, "token_embeddings": states, "attention_mask": mask}

    def _run(self, features: Mapping[str, Tensor]) -> Tensor:
        batch = batches.read(features)
        with self._runtime.alone():
            hidden = self._runtime.backbone(batch)
        states = batches.pooled_tokens(hidden, batch.pooled.to(hidden.device))
        for transform in self._runtime.maps:
            states = batches.transformed(states, transform)
        if self.echo_config.lexical is not None:
            states = self._beside(states, features, self.echo_config.lexical)
        for truncation in self._runtime.truncations:
            states = batches.transformed(states, truncation)
        return states

    def _beside(self, states: Tensor, features: Mapping[str, Tensor], lexical: Lexical) -> Tensor:
        """Scale a text's token vectors so that their pooled vector has length 1; join each with the lexical part."""
        mask = batches.pooled_mask(features["echo_pooled"]).to(states.device).bool()
        lengths = POOLINGS[self.echo_config.pooling](states, mask).norm(dim=1).clamp(min=torch.finfo(states.dtype).tiny)
        wanted = features[batches.WORDS]
        ids = [row[own > 0].cpu().numpy() for row, own in zip(features["input_ids"], wanted, strict=True)]
        words = torch.from_numpy(lexical.vectors(self._runtime.tokenizer.texts(ids))).to(states)
        words = words * wanted.amax(dim=1, keepdim=True).to(states)
        spread = words[:, None].expand(-1, states.shape[1], -1)
        return torch.cat(lexical.beside(states / lengths[:, None, None].to(states), spread), dim=2)

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write weights, tokenizer and ``echo_config.json``. ``EchoEncoder`` loads the folder too.

        If the model has adapters, only they and the name of the base model are written, as transformers does. The
        saved config names a packaged adapter only in that case; else it is already in the weights that are written.

        Raises:
            ModelError: an adapter was trained on top of another one of the user's, which would not be written.
        """
        del args, safe_serialization, kwargs
        if self.own_adapter is not None and getattr(self.model, "_hf_peft_config_loaded", False):
            raise ModelError(
                f"this adapter was trained on top of {self.own_adapter!r}, which is merged into the weights and would "
                "not be saved with it. Merge that one into a model first, by "
                f"EchoEncoder({self.own_adapter!r}).save_pretrained(folder), and train on EchoEncoder(folder)"
            )
        with written(Path(output_path), keeps_modules=True) as folder:
            with notices.loading_bars():
                self.model.save_pretrained(folder)
            self.save_tokenizer(str(folder))
            adapted = getattr(self.model, "_hf_peft_config_loaded", False)
            config = self.echo_config if adapted else self.echo_config.replace(packaged_adapter=None)
            config.save(folder)
            if not adapted:
                manifest.mark(folder, config.fingerprint())
            manifest.write(folder, config.fingerprint())
        card.add_requirements(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,  # noqa: FBT001 (as the base class has it)
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,  # noqa: FBT001, FBT002
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> EchoModule:
        """Load what ``save`` wrote, or any causal model (with the config that ``EchoEncoder`` chooses for it).

        ``model_kwargs["dtype"]`` is ``"auto"`` (the default), as in ``EchoEncoder``, or a torch dtype. The model is
        loaded on the CPU, and ``SentenceTransformer`` moves it, unless ``model_kwargs`` has a ``device_map``.

        Raises:
            ValueError: a ``backend`` other than ``"torch"``.
            ConfigError: the saved config is damaged, or belongs to other weights.
            ModelError: a file of the model is missing, damaged, or another one than was saved.
        """
        del init_defaults
        if (backend := kwargs.get("backend", "torch")) != "torch":
            raise ValueError(f"EchoModule runs on backend='torch' only, not {backend!r}")
        hub: dict[str, Any] = {"token": token, "revision": revision, "local_files_only": local_files_only}
        # ``SentenceTransformer(..., trust_remote_code=True)`` is consent to this class, not to code of the model.
        options = dict(kwargs.get("model_kwargs") or {})
        hub |= {"subfolder": subfolder, "cache_dir": cache_folder}
        loaded, config, adapter = weights.load(model_name_or_path, options, hub)
        module = cls(loaded.body, loaded.tokenizer, config, loaded.merged)
        if adapter is not None:  # after the layers above the exit are dropped: the adapter has no weights for them
            weights.add_adapter(module.model, adapter)
        return module

    def on_model_ready(self, model: BaseModel) -> None:
        """Let generated model cards say how to load this model, and let the model check what ``encode`` is given."""
        card.adopt(model)
        adopt(model)

    def __getstate__(self) -> dict[str, Any]:
        state = {name: value for name, value in vars(self).items() if name != "_runtime"}
        return state | {"_config": self.echo_config}

    def __setstate__(self, state: dict[str, Any]) -> None:
        config = state.pop("_config")
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._runtime = self._made(config)
