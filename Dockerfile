# One image for a run and for every machine of a Ray cluster; docs/containers.md says how.
#
#   docker build --tag neuraxis:0.1.0 .
FROM python:3.11-slim
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# pip reads it: where PyTorch's build for CPUs is, besides where everything else is.
ARG PIP_EXTRA_INDEX_URL
ARG EXTRAS=plots,prometheus,ray,tensorboard,wandb
WORKDIR /src
COPY constraints.txt .
RUN pip install --constraint constraints.txt torch
COPY . .
RUN pip install --constraint constraints.txt ".[$EXTRAS]" "ray[default]"
RUN useradd --create-home --uid 1000 neuraxis
USER neuraxis
WORKDIR /home/neuraxis
ENTRYPOINT ["neuraxis"]
