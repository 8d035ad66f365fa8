"""The daemon's configuration: every default, range and error text in one place.

A DREEM inference YAML (`ckpt_path`, `out_dir`, `tracker`, `dataset`, `dataloader`) is a valid configuration without
changes. trackd adds sections of its own: `daemon`, `stream`, `limits`, `security`, `viewer`.
"""

from __future__ import annotations

import logging
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from trackd.output_formats import WRITERS, check_outputs
from trackd_client.configuration import (
    ConfigError,
    Section,
    Tree,
    environment_overrides,
    known_keys,
    load_yaml,
    nearest,
    validate,
    with_overrides,
)
from trackd_client.excerpt import excerpt, yaml_excerpt
from trackd_client.recordings.config import DataloaderConfig, DatasetConfig, LiveDataset
from trackd_client.recordings.limits import RecordingLimits

logger = logging.getLogger(__name__)

# Sections and keys of DREEM's files that a daemon does not use.
TRAINING_ONLY = frozenset(
    {
        "loss", "optimizer", "scheduler", "trainer", "runner", "logging", "checkpointing", "early_stopping",
        "view_batch", "wandb", "seed", "save_frame_meta", "save_meta", "output_format", "metrics", "log_level",
    }
)  # fmt: skip


def _unbounded_is_none(value: Any) -> Any:
    """Return None for infinity: DREEM writes "no limit" as null or infinity."""
    return None if isinstance(value, float) and math.isinf(value) and value > 0 else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_IOU = {"mult": "mult", "max": "max", "": None, "none": None}  # DREEM's words, letters in any case


def _iou(value: Any) -> Any:
    if isinstance(value, str) and value.lower() == "add":
        raise ValueError(
            "should be mult, max or null: DREEM's command line names add, and its tracker has no such mode either. "
            "mult adds the IoU, weighted by its distance from the score"
        )
    return _IOU.get(value.lower(), value) if isinstance(value, str) else value


def _divisions(value: Any) -> Any:
    if value != "auto" and not isinstance(value, bool):
        raise ValueError("should be true, false or auto")
    return value


def _checkpoint_paths(value: Any) -> Any:
    paths = value if isinstance(value, list) else [value]
    if value is not None and not all(isinstance(path, str) for path in paths):
        raise ValueError("should be a path, or a list of paths such as [a.ckpt, b.ckpt], or null")
    return value


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise ValueError("should be auto, cpu, mps, cuda, or one of several cards such as cuda:1")
    return value


Count = Annotated[int, Field(ge=1)]
MOST_NAMES = 256  # in a list of a client's configuration; more take longer to check than other clients should wait
MOST_CHARACTERS = 256  # of a text in it
OptionalCount = Annotated[int | None, Field(ge=1), BeforeValidator(_unbounded_is_none)]


GALLERY_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class TrackerConfig(Section):
    """DREEM's `tracker` section and trackd's additions; each key's meaning is in docs/configuration.md."""

    window_size: Annotated[int, Field(ge=1, le=1024)] = 8
    use_vis_feats: bool = True
    use_scores: bool = True
    encode_every: Annotated[int, Field(ge=1, le=1024)] = 1
    encode_change: Annotated[float, Field(ge=0, le=1)] = 0.1
    overlap_thresh: Annotated[float, Field(ge=0)] = 0.01
    mult_thresh: bool | None = None
    decay_time: Annotated[float | None, Field(gt=0, le=1)] = None
    iou: Annotated[Literal["mult", "max"] | None, BeforeValidator(_iou)] = None
    max_center_dist: Annotated[float | None, Field(ge=0), BeforeValidator(_unbounded_is_none)] = None
    distance_penalty_multiplier: Annotated[float, Field(ge=0)] = 1.0
    semantics: Literal["2024", "2026"] = "2024"
    persistent_tracking: bool = True
    max_gap: OptionalCount = None
    max_gap_s: Annotated[float | None, Field(gt=0), BeforeValidator(_unbounded_is_none)] = None
    max_tracks: OptionalCount = None
    min_hits: Annotated[int, Field(ge=1, le=1024)] = 1
    temperature: Annotated[float, Field(gt=0)] = 0.1
    confidence_threshold: Annotated[float, Field(ge=0, le=1)] = 0.0
    max_angle_diff: Annotated[float, Field(ge=0, le=180)] = 0.0
    front_nodes: Annotated[list[str] | None, BeforeValidator(_as_list)] = None
    back_nodes: Annotated[list[str] | None, BeforeValidator(_as_list)] = None
    angle_diff_penalty_multiplier: Annotated[float, Field(ge=0)] = 1.0
    learn_identities: bool = False
    gallery: Annotated[str | None, Field(pattern=GALLERY_NAME)] = None
    divisions: Annotated[Literal["auto"] | bool, BeforeValidator(_divisions)] = "auto"

    @property
    def identifies(self) -> bool:
        """Whether it learns what the animals look like."""
        return self.learn_identities or self.gallery is not None

    @property
    def filters_nothing(self) -> bool:
        """Whether `max_center_dist` is so large that it was probably meant in pixels."""
        return self.semantics == "2024" and self.max_center_dist is not None and self.max_center_dist > 5


def _endpoint(value: str) -> str:
    if not value.startswith(("tcp://", "ipc://", "inproc://")):
        raise ValueError("must begin with tcp:// or ipc://")
    return value


Endpoint = Annotated[str, AfterValidator(_endpoint)]


def _collector(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", value):
        raise ValueError("should be the address of an OTLP/HTTP collector, such as http://127.0.0.1:4318")
    return value


class EndpointsConfig(Section):
    """The addresses of the three sockets."""

    ingest: Endpoint = "tcp://127.0.0.1:5570"
    tracks: Endpoint = "tcp://127.0.0.1:5571"
    control: Endpoint = "tcp://127.0.0.1:5572"


def _nats_server(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"(nats|tls)://[^\s/?#@]+:\d{1,5}", value):
        raise ValueError("should be the address of a NATS server, such as nats://10.0.0.1:4222 or tls://host:4222")
    return value


def _monitoring(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/?#@]+", value):
        raise ValueError("should be the address of a NATS server's monitoring, such as http://10.0.0.1:8222")
    return value


def _page(value: Any) -> Any:
    if value is not None and (not isinstance(value, str) or not re.fullmatch(r"https?://[^\s/?#@]+/?", value)):
        raise ValueError("should be the address of the member's pages, such as http://daemon-0.example.org:9570")
    return value


class MemberEndpointsConfig(Section):
    """The addresses under which clients reach this member, and browsers its pages."""

    ingest: Endpoint
    tracks: Endpoint
    control: Endpoint
    http: Annotated[str | None, BeforeValidator(_page)] = None


class FleetConfig(Section):
    """This daemon as a member of a fleet; see docs/fleet.md."""

    servers: Annotated[list[Annotated[str, BeforeValidator(_nats_server)]], Field(min_length=1, max_length=16)]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
    member: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = None
    credentials: str | None = None
    tls_ca: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    monitoring: Annotated[list[Annotated[str, BeforeValidator(_monitoring)]], Field(max_length=16)] = Field(
        default_factory=list
    )
    endpoints: MemberEndpointsConfig | None = None
    capacity: Annotated[int, Field(ge=0, le=100_000)] = 64
    lease_s: Annotated[int, Field(ge=3, le=60)] = 3
    replicas: Literal[1, 3, 5] = 3

    @model_validator(mode="after")
    def _has_key(self) -> FleetConfig:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key must be given together")
        return self


class DaemonConfig(Section):
    """The process: sockets, HTTP, state, device."""

    endpoints: EndpointsConfig = EndpointsConfig()
    http: str | None = "127.0.0.1:9570"
    state_dir: str | None = None
    durability: Literal["process", "power", "fleet"] = "process"
    fleet: FleetConfig | None = None
    journal_bytes: Annotated[int, Field(ge=1_048_576)] = 1_073_741_824
    device: Annotated[str, AfterValidator(_device)] = "auto"
    encoder_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    encoder_threads: Annotated[int | None, Field(ge=1, le=64)] = None
    decode_on_device: bool = False
    stall_s: Annotated[float, Field(gt=0)] = 5.0
    drain_s: Annotated[float, Field(gt=0)] = 30.0
    telemetry: Annotated[str, AfterValidator(_collector)] | None = None
    telemetry_share: Annotated[float, Field(gt=0, le=1)] = 1.0

    @model_validator(mode="after")
    def _stores_in_one_place(self) -> DaemonConfig:
        if self.durability == "fleet" and self.fleet is None:
            raise ValueError("durability: fleet needs daemon.fleet, whose servers hold the log")
        if self.durability == "power" and self.fleet is not None:
            raise ValueError("durability is 'power', which is of the journal; with daemon.fleet the log replaces it")
        return self


def _output_name(value: Any) -> Any:
    if not isinstance(value, str) or value not in WRITERS:
        *names, last = map(repr, WRITERS)
        raise ValueError(f"should be {', '.join(names)} or {last}")
    return value


OutputName = Annotated[str, BeforeValidator(_output_name)]


def _few(value: Any) -> Any:
    """Refuse a list that is too long before its elements are checked."""
    if isinstance(value, list) and len(value) > len(WRITERS):
        raise ValueError("should name each format at most once")
    return value


def _distinct(names: list[OutputName]) -> list[OutputName]:
    if len(set(names)) < len(names):
        raise ValueError("should name each format at most once")
    return names


def _installed(names: list[OutputName]) -> list[OutputName]:
    check_outputs(names)
    return names


class StreamConfig(Section):
    """The defaults of every stream; a client's `open` may override them."""

    queue_depth: Annotated[int, Field(ge=1, le=4096)] = 32
    on_overload: Literal["block", "drop_oldest", "drop_newest"] = "block"
    deadline_ms: Annotated[float | None, Field(gt=0)] = None
    idle_timeout_s: Annotated[float, Field(gt=0)] = 60.0
    owner_timeout_s: Annotated[float, Field(gt=0)] = 10.0
    resume_s: Annotated[float, Field(gt=0)] = 300.0
    history_frames: Annotated[int, Field(ge=0, le=1_000_000)] = 4096
    outputs: Annotated[
        list[OutputName], BeforeValidator(_few), AfterValidator(_distinct), AfterValidator(_installed)
    ] = Field(default_factory=list)


class LimitsConfig(RecordingLimits):
    """The limits of messages, streams and recordings; what a message or file claims is checked before allocation.

    `image_pixels` and `instances` apply to messages and recordings, `recording_frames` to recordings.
    """

    header_bytes: Annotated[int, Field(ge=1024)] = 65_536
    message_bytes: Annotated[int, Field(ge=1024)] = 134_217_728
    parts: Annotated[int, Field(ge=1)] = 16
    image_bytes: Annotated[int, Field(ge=1)] = 134_217_728
    keypoints: Annotated[int, Field(ge=1)] = 256
    streams: Annotated[int, Field(ge=1)] = 256
    output_files: Annotated[int, Field(ge=0)] = 512
    active_tracks: Annotated[int, Field(ge=1)] = 4096
    history_bytes: Annotated[int, Field(ge=0)] = 16_777_216
    queue_bytes: Annotated[int, Field(ge=1024)] = 2_147_483_648
    checkpoint_bytes: Annotated[int, Field(ge=1024)] = 4_294_967_296
    step_ms: Annotated[float | None, Field(gt=0)] = 10_000.0


class SecurityConfig(Section):
    """CURVE keys and the HTTP token; see docs/security.md."""

    curve: bool = False
    server_secret_key_file: str | None = None
    authorized_clients_dir: str | None = None
    http_token_file: str | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _has_keys(self) -> SecurityConfig:
        for name in ("server_secret_key_file", "authorized_clients_dir"):
            if self.curve and getattr(self, name) is None:
                raise ValueError(f"{name} must be given where curve is true; `trackd keygen DIR` makes the keys")
        return self


def _host_name(value: Any) -> Any:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", value):
        raise ValueError("should be a host name without a port, such as rig.example.org")
    return value


class ViewerConfig(Section):
    """The live viewer; see docs/viewer.md."""

    enabled: bool = True
    pages: Annotated[int, Field(ge=1, le=64)] = 8
    hosts: list[Annotated[str, BeforeValidator(_host_name)]] = Field(default_factory=list)
    fps: Annotated[int, Field(ge=1, le=15)] = 15


class RecordingConfig(Section):
    """Recordings of published messages that clients start; see docs/record.md."""

    dir: str | None = None
    at_once: Annotated[int, Field(ge=1, le=64)] = 8
    max_bytes: Annotated[int, Field(ge=1_048_576)] = 10_737_418_240


class ModelConfig(Section):
    """How a checkpoint is read."""

    temporal_input: Literal["index", "fraction"] = "index"


class Config(Section):
    """A whole configuration file."""

    ckpt_path: Annotated[str | list[str] | None, BeforeValidator(_checkpoint_paths)] = None
    out_dir: Annotated[str, Field(validation_alias="outdir")] = "results"
    tracker: TrackerConfig = TrackerConfig()
    dataset: DatasetConfig = DatasetConfig()
    dataloader: DataloaderConfig = DataloaderConfig()
    model: ModelConfig = ModelConfig()
    daemon: DaemonConfig = DaemonConfig()
    stream: StreamConfig = StreamConfig()
    limits: LimitsConfig = LimitsConfig()
    security: SecurityConfig = SecurityConfig()
    viewer: ViewerConfig = ViewerConfig()
    recording: RecordingConfig = RecordingConfig()

    @property
    def galleries(self) -> Path:
        """The folder of the galleries: beside the journal, else in `out_dir`."""
        return Path(self.daemon.state_dir or self.out_dir) / "galleries"

    @property
    def checkpoints(self) -> list[str]:
        """`ckpt_path` as a list."""
        if self.ckpt_path is None:
            return []
        return [self.ckpt_path] if isinstance(self.ckpt_path, str) else list(self.ckpt_path)


class StreamSettings(Section):
    """The settings of one stream: the daemon's defaults with the changes of its `open`."""

    tracker: TrackerConfig
    stream: StreamConfig
    dataset: LiveDataset

    @classmethod
    def of(cls, config: Config) -> StreamSettings:
        """Return the settings of a stream whose `open` changes nothing."""
        live = {name: getattr(config.dataset.test_dataset, name) for name in LiveDataset.model_fields}
        return cls(tracker=config.tracker, stream=config.stream, dataset=LiveDataset(**live))

    def changed(self, changes: Mapping[str, Any]) -> StreamSettings:
        """Return these settings with the `config` map of an `open` or `stream.configure` applied.

        Args:
            changes: keys of the three sections, at the top level or below `tracker`, `stream`, `dataset`.

        Raises:
            ConfigError: an unknown key, or a value of the wrong type or out of range.
        """
        sections: dict[str, Section] = {"tracker": self.tracker, "stream": self.stream, "dataset": self.dataset}
        updates: dict[str, dict[str, Any]] = {name: {} for name in sections}
        for key, value in changes.items():
            if key in sections:
                if not isinstance(value, Mapping):
                    raise ConfigError(f"{key} must be a map; got {yaml_excerpt(value)}")
                known = known_keys(type(sections[key]))
                for name in value:  # before they are validated, which takes longer for each of them
                    if name not in known:
                        raise ConfigError(f"{key}.{str(name)[:60]}: unknown key; {nearest(str(name), known)}")
                    _check_size(f"{key}.{name}", value[name])
                updates[key].update(value)
                continue
            owners = [name for name, section in sections.items() if key in known_keys(type(section))]
            if not owners:
                everything = [word for section in sections.values() for word in known_keys(type(section))]
                raise ConfigError(f"{str(key)[:60]}: unknown key; {nearest(str(key), everything)}")
            _check_size(key, value)
            updates[owners[0]][key] = value
        tracker = _updated(self.tracker, updates["tracker"], "tracker")
        if tracker.filters_nothing and not self.tracker.filters_nothing:
            _warn_about_pixels(tracker)
        return StreamSettings(
            tracker=tracker,
            stream=_updated(self.stream, updates["stream"], "stream"),
            dataset=_updated(self.dataset, updates["dataset"], "dataset"),
        )

    def as_map(self) -> dict[str, Any]:
        """Return the settings as plain values, for the wire."""
        return self.model_dump(mode="json")


def _warn_about_pixels(tracker: TrackerConfig) -> None:
    logger.warning(
        'tracker.max_center_dist is %g under tracker.semantics "2024", where it is a squared distance over the squared '
        'box diagonal (such as 0.1) and so filters nothing; DREEM 0.5 means pixels: set tracker.semantics to "2026"',
        tracker.max_center_dist,
    )


def _check_size(key: str, value: Any) -> None:
    """Check the length of a client's value before it is validated; the time of that grows with the length."""
    if isinstance(value, str) and len(value) > MOST_CHARACTERS:
        raise ConfigError(f"{key} has at most {MOST_CHARACTERS} characters; got {len(value)}: {excerpt(value)}")
    if isinstance(value, list):
        if len(value) > MOST_NAMES:
            raise ConfigError(f"{key} has at most {MOST_NAMES} items; got {len(value)}: {excerpt(value)}")
        for item in value:
            if isinstance(item, list | dict) or (isinstance(item, str) and len(item) > MOST_CHARACTERS):
                raise ConfigError(f"{key} must hold texts of at most {MOST_CHARACTERS} characters; got {excerpt(item)}")


def _updated(section: Any, changes: Mapping[str, Any], where: str) -> Any:
    if not changes:
        return section
    return validate(type(section), {**section.model_dump(), **changes}, where)


def load_config(
    path: str | Path | None = None,
    overrides: Iterable[str] = (),
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """Read, override and check a configuration.

    Args:
        path: the YAML file; None: defaults only.
        overrides: `a.b.c=value` texts; they win over the environment, which wins over the file.
        environment: holds `TRACKD__A__B=value` variables.

    Raises:
        ConfigError: one line with the file, the key, what would be right, and the value.
    """
    tree = _out_dir_named(load_yaml(path) if path is not None else {})
    texts = [*environment_overrides(environment), *overrides]
    # An override by either name of the key replaces the value that the file gives by the other one.
    texts = [re.sub(r"^\s*outdir\s*=", "out_dir=", text) for text in texts]
    return check_config(with_overrides(tree, texts))


def _out_dir_named(tree: Tree) -> Tree:
    """Return a tree in which `outdir`, DREEM's name since 0.5, is `out_dir`."""
    if "out_dir" in tree and "outdir" in tree:
        raise ConfigError("out_dir and outdir are the same key; give one of them")
    return {"out_dir" if key == "outdir" else key: value for key, value in tree.items()}


def check_config(tree: Tree) -> Config:
    """Check a configuration tree. DREEM's training-only parts are ignored, and one warning lists them."""
    ignored = [str(key) for key in tree if key in TRAINING_ONLY]
    tree = {key: value for key, value in tree.items() if key not in TRAINING_ONLY and value is not None}
    if isinstance(tree.get("model"), dict):
        ours = set(known_keys(ModelConfig))
        ignored += [f"model.{key}" for key in tree["model"] if key not in ours]
        tree["model"] = {key: value for key, value in tree["model"].items() if key in ours}
    if ignored:
        logger.warning("ignored, since a daemon does not train: %s", ", ".join(sorted(ignored)))
    config = validate(Config, _out_dir_named(tree))
    if config.tracker.filters_nothing:
        _warn_about_pixels(config.tracker)
    return config


def at(path: str, base: Path | None) -> Path:
    """Resolve a path of the configuration.

    Args:
        path: as the configuration holds it; `~` is expanded.
        base: the folder of the configuration file; None: no file.

    Returns:
        The path beside the configuration file where something exists there, else the path from the working directory.
    """
    expanded = Path(path).expanduser()
    if base is not None and (base / expanded).exists():
        return base / expanded
    return expanded
