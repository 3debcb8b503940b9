"""One model for both jobs, with LangChain: the same weights in memory find the passages and write the answer.

Echo changes no weight, so one SmolLM2-135M serves the retriever and the last step of the chain. The documents are the
docstrings of Python's own library, read from the folder where it is installed. A model this small writes clumsy
answers, and finds less than a large one; any other causal model goes in the same way, without the config, which is
fitted to this one. About half a minute on two cores.
"""

import ast
import textwrap
from pathlib import Path

from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from transformers import AutoModelForCausalLM, AutoTokenizer

from echo_embeddings import EchoEncoder
from echo_embeddings.model import builtin
from langchain_echo_embeddings import EchoEmbeddings

QUESTIONS = ["How can I parse command line options?", "How do I find the median of some numbers?"]


def load_documents(folder: Path) -> list[Document]:
    """The beginning of each module's docstring, with the file that it comes from."""
    documents = []
    for path in sorted(folder.glob("[a-z]*.py")):
        docstring = ast.get_docstring(ast.parse(path.read_bytes())) or ""
        if len(docstring) > 150:
            documents.append(Document(docstring[:400], metadata={"source": path.name}))
    return documents


# One set of weights ...
tokenizer = AutoTokenizer.from_pretrained(builtin.folder())
model = AutoModelForCausalLM.from_pretrained(builtin.folder())

# ... embeds ...
encoder = EchoEncoder(model, tokenizer=tokenizer, config="zero-shot")
documents = load_documents(Path(ast.__file__).parent)
store = InMemoryVectorStore.from_documents(documents, EchoEmbeddings(encoder=encoder))
retriever = store.as_retriever(search_kwargs={"k": 2})


# ... and answers.
def generate(prompt) -> str:
    chat = [{"role": message.type.replace("human", "user"), "content": message.content} for message in prompt.messages]
    inputs = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    output = model.generate(**inputs, max_new_tokens=50, do_sample=False)
    return tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def as_text(given) -> str:
    return "\n\n".join(f"{document.metadata['source']}: {document.page_content}" for document in given["found"])


prompt = ChatPromptTemplate.from_messages(
    [
        ("system", "You answer questions about Python from its documentation, in one sentence that names the module."),
        ("human", "{documentation}\n\nQuestion: {question}"),
    ]
)
answer = RunnablePassthrough.assign(documentation=as_text) | prompt | RunnableLambda(generate)
chain = {"question": RunnablePassthrough(), "found": retriever} | RunnablePassthrough.assign(answer=answer)

print(f"{len(documents)} documents; one model of {model.num_parameters() / 1e6:.0f} million parameters in memory\n")
for question in QUESTIONS:
    result = chain.invoke(question)
    print(f"Question: {question}\n{textwrap.indent(result['answer'], '    ')}")
    print("Sources: ", ", ".join(document.metadata["source"] for document in result["found"]), end="\n\n")
