# The programs of the service, in two images of one recipe: `small` for who signs, publishes, looks after releases and
# keeps time, `large` with what builds and boots images besides.
#
# What pip is to know of a mirror comes as a secret named pip, which is in no layer:
#     docker build --secret id=pip,src=pip.conf --target small .
ARG BASE=debian:12-slim

FROM ${BASE} AS python
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends ca-certificates python3 tzdata \
    && rm -rf /var/lib/apt/lists/*

FROM python AS packages
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv \
    && python3 -m venv /opt/imagefactory
# Everything that may be installed, by its hash; what is installed is chosen from these files without a network.
COPY requirements.lock /source/
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/imagefactory/bin/pip download --quiet --no-cache-dir --no-deps --require-hashes \
        --requirement /source/requirements.lock --dest /wheels
COPY pyproject.toml README.md LICENSE /source/
COPY elements /source/elements
COPY recipes /source/recipes
COPY signing /source/signing
COPY imagefactory /source/imagefactory
RUN export PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels PIP_NO_CACHE_DIR=1 \
    && /opt/imagefactory/bin/pip wheel --quiet --no-deps --wheel-dir /own /source \
    && /opt/imagefactory/bin/pip install --quiet "$(echo /own/*.whl)[build,openstack,pkcs11,service]" \
    && rm -rf /wheels /own

FROM python AS small
COPY --from=packages /opt/imagefactory /opt/imagefactory
COPY deploy/systemd/sysusers.conf /usr/lib/sysusers.d/imagefactory.conf
COPY deploy/systemd/tmpfiles.conf /usr/lib/tmpfiles.d/imagefactory.conf
COPY --chmod=0755 deploy/compose/provision /usr/local/sbin/
# An empty volume gets the owners and modes of the directory that it is mounted at.
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        systemd-standalone-sysusers systemd-standalone-tmpfiles \
    && rm -rf /var/lib/apt/lists/* \
    && systemd-sysusers imagefactory.conf \
    && systemd-tmpfiles --create imagefactory.conf \
    && mkdir /etc/imagefactory/trusted
ENV PATH=/opt/imagefactory/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1
USER imagefactory-beat
ENTRYPOINT ["imagefactory"]
CMD ["--help"]

FROM small AS large
USER root
COPY .ci/packages /tmp/packages
RUN apt-get update -qq \
    && DEBIAN_FRONTEND=noninteractive xargs --arg-file=/tmp/packages apt-get install -y -qq --no-install-recommends \
    && rm -rf /var/lib/apt/lists/* /tmp/packages
USER imagefactory-test
