# The dashboard in a container: docs/install.md has the commands.
# This file is built nowhere in the project's tests: whoever changes it builds it once by hand.
FROM python:3.13-slim

RUN useradd --create-home lab && mkdir /data && chown lab /data
WORKDIR /lab
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
RUN python main.py models install

USER lab
# Rows, consents and the large model outlive the container; nothing else is written outside /tmp.
ENV LAB_DB=/data/lab.duckdb LAB_SETTINGS=/data/settings LAB_MODELS=/data/models
VOLUME /data
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python", "-c", \
    "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=3)"]

# All addresses, since 127.0.0.1 in here is out of the host's reach; the host decides who comes in:
# docker run -p 127.0.0.1:8501:8501. Only requests for localhost are answered all the same
# (allowedHosts in .streamlit/config.toml).
CMD ["streamlit", "run", "app.py", "--server.address", "0.0.0.0", "--server.port", "8501", \
    "--server.headless", "true", "--browser.gatherUsageStats", "false"]
