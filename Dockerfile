# CPU image. Build: docker build -t vocation .
# A first key:      docker run --rm -v vocation:/data vocation vocation keys create --name first --scope admin
# Run:              docker run -p 3000:3000 -v vocation:/data vocation
FROM python:3.11-slim
WORKDIR /app
COPY constraints.txt pyproject.toml README.md ./
COPY service ./service
COPY models ./models
RUN python -m pip install --no-cache-dir torch==2.13.0 -c constraints.txt -e .
ENV VOCATION_HOME=/data HOST=0.0.0.0 PORT=3000 BENTOML_DO_NOT_TRACK=True
VOLUME /data
EXPOSE 3000
CMD ["vocation", "serve"]
