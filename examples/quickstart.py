"""Three lines, and what they give. Run: python examples/quickstart.py."""

from echo_embeddings import EchoEncoder

encoder = EchoEncoder()  # the built-in model; or a hub id, a folder, a .gguf file
vectors = encoder.encode_documents(["The ferry leaves at dawn.", "The boat sails at sunrise.", "Bread needs an oven."])
print(encoder.similarity(vectors, vectors).round(3))

# Searching: what is searched in and what is searched for may go through different templates, so there are two verbs.
passages = [
    "Ferries to the island run from April to October, three times a day.",
    "The museum is closed on Mondays, except on public holidays.",
    "Dogs travel free of charge if they are kept on a lead.",
]
questions = ["When can I sail to the island?", "Is my pet allowed on board?"]
scores = encoder.similarity(encoder.encode_queries(questions), encoder.encode_documents(passages))

for question, row in zip(questions, scores, strict=True):
    print(f"\n{question}")
    for score, passage in sorted(zip(row.tolist(), passages, strict=True), reverse=True):
        print(f"  {score:.3f}  {passage}")
