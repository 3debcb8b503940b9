"""One model for both jobs, with LlamaIndex: the same weights in memory find the passages and write the answer.

Echo changes no weight, so one SmolLM2-135M serves the index and the query engine. The documents are the docstrings of
Python's own library, read from the folder where it is installed. A model this small writes clumsy answers, and finds
less than a large one; any other causal model goes in the same way, without the config, which is fitted to this one.
About half a minute on two cores.
"""

import ast
import textwrap
from pathlib import Path
from typing import Any

from llama_index.core import Document, PromptTemplate, VectorStoreIndex
from llama_index.core.llms import CompletionResponse, CompletionResponseGen, CustomLLM, LLMMetadata
from transformers import AutoModelForCausalLM, AutoTokenizer

from echo_embeddings import EchoEncoder
from echo_embeddings.model import builtin
from llama_index.embeddings.echo import EchoEmbedding

QUESTIONS = ["Which module makes temporary files?", "How do I find the median of some numbers?"]
SYSTEM = "You answer questions about Python from its documentation, in one sentence that names the module."


def load_documents(folder: Path) -> list[Document]:
    """The beginning of each module's docstring, with the file that it comes from."""
    documents = []
    for path in sorted(folder.glob("[a-z]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_bytes())) or ""
        if len(docstring) > 150:
            documents.append(Document(text=docstring[:400], doc_id=path.name))
    return documents


class LocalLLM(CustomLLM):
    """A transformers model as LlamaIndex's LLM."""

    model: Any
    tokenizer: Any

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=2048, num_output=50, model_name="SmolLM2-135M-Instruct")

    def complete(self, prompt: str, *_: Any, **__: Any) -> CompletionResponse:
        chat = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]
        options = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
        inputs = self.tokenizer.apply_chat_template(chat, **options)
        output = self.model.generate(**inputs, max_new_tokens=50, do_sample=False)
        answer = self.tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return CompletionResponse(text=answer.strip())

    def stream_complete(self, prompt: str, *_: Any, **__: Any) -> CompletionResponseGen:
        yield self.complete(prompt)


# One set of weights ...
tokenizer = AutoTokenizer.from_pretrained(builtin.folder())
model = AutoModelForCausalLM.from_pretrained(builtin.folder())

# ... embeds ...
encoder = EchoEncoder(model, tokenizer=tokenizer, config="zero-shot")
documents = load_documents(Path(ast.__file__).parent)
index = VectorStoreIndex.from_documents(documents, embed_model=EchoEmbedding(encoder=encoder))

# ... and answers.
llm = LocalLLM(model=model, tokenizer=tokenizer)
template = PromptTemplate("{context_str}\n\nQuestion: {query_str}")
engine = index.as_query_engine(llm=llm, similarity_top_k=2, text_qa_template=template)

print(f"{len(documents)} documents; one model of {model.num_parameters() / 1e6:.0f} million parameters in memory\n")
for question in QUESTIONS:
    result = engine.query(question)
    print(f"Question: {question}\n{textwrap.indent(str(result), '    ')}")
    print("Sources: ", ", ".join(f"{n.node.ref_doc_id} ({n.score:.2f})" for n in result.source_nodes), end="\n\n")
