# elimtool in a container; the model cache is the volume /cache.
#
#   docker build -t elimtool --build-arg TORCH_INDEX=URL .      # for processors
#   docker build -t elimtool:cuda --build-arg BASE=nvidia/cuda:12.8.1-base-ubuntu24.04 .
#   docker run --rm -v elimtool-cache:/cache -v "$PWD:/work" elimtool trace "The capital of France is" -t Paris
#
# BASE must be an Ubuntu 24.04 or Debian that has Python 3.11 or newer. TORCH_INDEX is the address of the index of PyTorch's
# wheels without CUDA, as its installation page names it; without it the wheels that bring CUDA's libraries along are
# taken, some gigabytes that a machine without a GPU does not need.
ARG BASE=ubuntu:24.04

FROM ${BASE} AS build
ARG TORCH_INDEX=
ARG EXTRAS=plot,fast
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/elimtool
WORKDIR /src
COPY . .
RUN /opt/elimtool/bin/pip install --no-cache-dir ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} ".[${EXTRAS}]"

FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 --user-group elimtool \
    && install -d -o elimtool -g elimtool /cache /work
COPY --from=build /opt/elimtool /opt/elimtool
ENV PATH=/opt/elimtool/bin:$PATH \
    ELIMTOOL_CACHE=/cache/elimtool \
    HF_HOME=/cache/huggingface \
    NUMBA_CACHE_DIR=/cache/numba \
    MPLCONFIGDIR=/cache/matplotlib
VOLUME ["/cache"]
WORKDIR /work
USER 10001:10001
ENTRYPOINT ["elimtool"]
CMD ["--help"]
