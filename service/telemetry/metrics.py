"""Every ``vocation_`` metric, in one place; ``docs/metrics.md`` is held to this module by a test.

With several processes (API workers, the Trainer) prometheus-client's multiprocess mode adds them
up: BentoML serves the sum at ``/metrics``. The folder, ``PROMETHEUS_MULTIPROC_DIR``, is BentoML's
until ``service/telemetry/metrics_directory.py`` puts one in memory in its place.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import Counter, Gauge, Histogram

from service.domain.types import RegistrationState

_FAST = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

STAGE_SECONDS = Histogram(
    "vocation_stage_seconds",
    "Time by stage: queue for each part of a request; tokenise, encode, head for each batch.",
    ["stage"],
    buckets=_FAST,
)
BATCH_EXPERIENCES = Histogram(
    "vocation_batch_experiences", "Experiences that one batch gathered.", buckets=_SIZES
)
EXPERIENCES = Counter(
    "vocation_experiences", "Experiences answered, by outcome (scored, error).", ["outcome"]
)
TOKENS = Counter("vocation_tokens", "Tokens encoded, special tokens included.")
EMBEDDING_CACHE = Counter(
    "vocation_embedding_cache_lookups",
    "Distinct texts of a batch looked up among the kept embeddings, by outcome (hit, miss).",
    ["outcome"],
)
TRUNCATIONS = Counter("vocation_truncations", "Texts longer than the encoder reads.")
PREDICTIONS = Counter(
    "vocation_predictions",
    "Scores given, by occupation, version and label.",
    ["occupation", "version", "label"],
)
SCORES = Counter(
    "vocation_scores",
    "Scores given, by occupation and version: cumulative in le, as histogram_quantile reads it.",
    ["occupation", "version", "le"],
)
TRUNCATED_PREDICTIONS = Counter(
    "vocation_truncated_predictions",
    "Scores given to texts that were cut, by occupation and version.",
    ["occupation", "version"],
)
REFERENCE_SCORES = Gauge(
    "vocation_reference_scores",
    "Share of scores expected from a champion when it was made: cumulative in le.",
    ["occupation", "version", "le"],
    # Every process shows the same share of a version; the last word says whether it is champion.
    multiprocess_mode="livemostrecent",
)
REFERENCE_LABELS = Gauge(
    "vocation_reference_labels",
    "Share of each label expected from a champion when it was made.",
    ["occupation", "version", "label"],
    multiprocess_mode="livemostrecent",
)
ERRORS = Counter("vocation_errors", "Problem documents sent, by code.", ["code"])
REQUESTS_REFUSED = Counter(
    "vocation_requests_refused",
    "Classify requests refused for overload at the edge, which BentoML does not count.",
    ["endpoint", "http_response_code"],
)
KEY_REQUESTS = Counter(
    "vocation_key_requests",
    "Requests with a valid key, by its name and outcome (admitted, forbidden, rate_limited).",
    ["key", "outcome"],
)
AUTHENTICATION_FAILURES = Counter(
    "vocation_authentication_failures",
    "Requests without a valid key, by reason (missing, malformed, unknown, expired, revoked).",
    ["reason"],
)
MODELS_LOADED = Gauge(
    "vocation_models_loaded",
    "Encoders and versions that API processes hold in memory.",
    ["kind"],
    multiprocess_mode="livesum",
)
GENERATION = Gauge(
    "vocation_registry_generation",
    "Lowest registry generation that a process of a service serves.",
    # Labelled: a gauge without labels reads 0 in every process that only imports this module.
    ["service"],
    multiprocess_mode="livemin",
)
REGISTRATIONS = Gauge(
    "vocation_registrations",
    "Registrations in the registry, by state.",
    ["state"],
    multiprocess_mode="mostrecent",
)
TRAINER_HEARTBEAT = Gauge(
    "vocation_trainer_heartbeat_timestamp_seconds",
    "When the Trainer last looked at the registrations, in seconds since 1970.",
    # Absent until the Trainer has set it: this mode leaves out what no process has set.
    multiprocess_mode="mostrecent",
)
TRAINING_SECONDS = Histogram(
    "vocation_training_seconds", "Time of a registration by stage.", ["stage"], buckets=_SLOW
)

ALL = (
    STAGE_SECONDS,
    BATCH_EXPERIENCES,
    EXPERIENCES,
    TOKENS,
    EMBEDDING_CACHE,
    TRUNCATIONS,
    PREDICTIONS,
    SCORES,
    TRUNCATED_PREDICTIONS,
    REFERENCE_SCORES,
    REFERENCE_LABELS,
    ERRORS,
    REQUESTS_REFUSED,
    KEY_REQUESTS,
    AUTHENTICATION_FAILURES,
    MODELS_LOADED,
    GENERATION,
    REGISTRATIONS,
    TRAINER_HEARTBEAT,
    TRAINING_SECONDS,
)


def set_registrations(counts: Mapping[RegistrationState, int]) -> None:
    """Show how many registrations are in each state."""
    for state, count in counts.items():
        REGISTRATIONS.labels(state.value).set(count)


def set_generation(generation: int) -> None:
    """Show which registry generation this API process serves."""
    GENERATION.labels("vocation").set(generation)


def set_models_loaded(encoders: int, versions: int) -> None:
    """Show what this process holds in memory."""
    MODELS_LOADED.labels("encoder").set(encoders)
    MODELS_LOADED.labels("version").set(versions)
