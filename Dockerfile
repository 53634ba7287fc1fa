# The service without a compiler, pip's cache or root. requirements.txt pins all packages.
# BASE is a Debian image with python3, its venv module, tzdata and certificates: `make image` makes one without a registry.
ARG BASE=python

# The default, as a stage of its own: Dependabot reads the images of FROM, and not of ARG.
FROM docker.io/library/python:3.13.9-slim-trixie@sha256:326df678c20c78d465db501563f3492d17c42a4afe33a1f2bf5406a1d56b0e86 AS python

FROM ${BASE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /build
ENV PATH=/opt/pip/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# pip has an environment of its own, which is not part of the image.
RUN python3 -m venv /opt/pip \
    && python3 -m venv --without-pip /opt/support
COPY requirements.txt requirements-dev.txt ./
# Dependencies first: they change less often than the source. Only wheels, so that nothing is compiled here. For a private
# package index, pass the secrets `pip` (a pip.conf) and `certificates`; neither stays in the image.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=certificates \
    pip --python /opt/support/bin/python install --require-hashes --only-binary :all: -r requirements.txt
# The build backend, at the version and with the hashes of the lock.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=certificates \
    awk '/^[^ #]/ { keep = /^setuptools==/ } keep' requirements-dev.txt > backend.lock \
    && pip install --require-hashes --no-deps -r backend.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/support/bin/python install --no-deps dist/*.whl \
    && find /opt/support -type d -name tests -prune -exec rm -r {} +

FROM ${BASE}
# Remove the setuid and setgid bits of the base image.
RUN find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && groupadd --gid 10001 support \
    && useradd --uid 10001 --gid support --no-create-home --home-dir /var/lib/support --shell /usr/sbin/nologin support \
    && install -d -o support -g support /var/lib/support /var/lib/support/attachments
COPY --from=build /opt/support /opt/support
ENV PATH=/opt/support/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SUPPORT_DATABASE_URL=sqlite:////var/lib/support/support.db \
    SUPPORT_ATTACHMENT_DIR=/var/lib/support/attachments
WORKDIR /var/lib/support
USER 10001:10001
# The service writes to this folder only, so the root may be read-only.
VOLUME /var/lib/support
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:%s/livez' % (os.environ.get('SUPPORT_ADMIN_PORT') or os.environ.get('SUPPORT_PORT') or 8000), timeout=2)"]
ENTRYPOINT ["support-service"]
CMD ["serve"]
