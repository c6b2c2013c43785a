"""The Ray engine on a cluster of two worker nodes in this machine, one of which is killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import elimtool
from elimtool.analysis.map.api import find_map
from elimtool.errors import ElimError, Exit
from elimtool.model.source import ModelSource
from elimtool.prompts.file import PromptFile
from elimtool.tasks.batch import preflight
from elimtool.tasks.batch.cluster import PATIENCE, RayEngine
from elimtool.tasks.batch.local import LocalEngine
from elimtool.tasks.batch.options import BatchOptions, RayOptions
from elimtool.tasks.batch.run import BatchProgress, run
from elimtool.tasks.batch.work import Worker
from elimtool.tasks.map.corpus import Corpus
from elimtool.tasks.map.options import MapOptions
from elimtool.tasks.map.units import MapSource
from elimtool.tasks.map.work import MapWorker
from tests.engine.test_engine import assert_same
from tests.tasks.batch.conftest import QUICK, Batch, write_prompts
from tests.tasks.map.conftest import write_corpus


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without CPUs and two nodes with one each."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patched:
        # such a head asks for no token, whatever ~/.ray of this machine holds
        patched.setenv("RAY_AUTH_MODE", "disabled")
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        found.workers = [found.add_node(num_cpus=1) for _ in range(2)]
        try:
            yield found
        finally:
            ray.shutdown()
            found.shutdown()


def on_ray(
    prompts: Path, directory: Path, model: Path, report: Any = None, patience: float = PATIENCE, **ray: Any
) -> Any:
    options = BatchOptions(shard_size=2, engine="ray", ray=RayOptions(**ray))
    engine = RayEngine(ModelSource(str(model)), QUICK, options, patience)
    with PromptFile(prompts) as file:
        told = None if report is None else partial(report, engine)
        return engine, run(file, directory, engine, options, report=told)


@pytest.mark.slow
def test_a_killed_node_costs_nothing(
    cluster: Any, batch: Batch, llama_directory: Path, tmp_path: Path
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 60)
    killed: list[Any] = []

    def kill(engine: RayEngine, standing: BatchProgress) -> None:
        handlers.append(signal.getsignal(signal.SIGTERM))
        if len(engine.nodes) < 2 and not killed:
            time.sleep(1)  # let the other node join while there are shards left for the one to be killed
        elif not killed:
            killed.append(cluster.workers.pop())
            cluster.remove_node(killed[0], allow_graceful=False)

    handlers: list[Any] = []
    engine, standing = on_ray(
        prompts, tmp_path / "ray", llama_directory, kill, address=cluster.address, actors=2
    )
    assert all("_terminable" in handler.__qualname__ for handler in handlers)  # Ray's own ends the process
    assert killed and engine.lost >= 1
    assert len(engine.nodes) == 2
    assert (standing.prompts, standing.errors) == (60, 0)
    batch(prompts, tmp_path / "local", shard_size=2)
    one, two = (elimtool.open_run(tmp_path / name) for name in ("ray", "local"))
    assert one.prompts["prompt_id"].tolist() == two.prompts["prompt_id"].tolist()
    for name in two.tables:
        assert_same(one.table(name), two.table(name), name)


@pytest.mark.slow
def test_a_map_on_ray_is_that_of_one_machine(cluster: Any, llama: Any, tmp_path: Path) -> None:
    asked = MapOptions.of(("roles",), tokens=48)
    source = MapSource(llama, Corpus.of(write_corpus(tmp_path / "text.jsonl", count=12)), asked)
    how = BatchOptions(shard_size=16)
    spread = replace(how, engine="ray", ray=RayOptions(address=cluster.address, actors=1))
    engines: dict[str, Any] = {
        "ray": RayEngine(ModelSource(str(llama.directory)), asked, spread, make=MapWorker),
        "local": LocalEngine(llama, asked, how, make=MapWorker),
    }
    found, count = {}, len(list(source.records()))
    for name, engine in engines.items():
        standing = run(source, tmp_path / name, engine, how)
        assert (standing.prompts, standing.errors) == (count, 0)
        found[name] = find_map(elimtool.open_run(tmp_path / name)).table("head_roles")
    assert_same(found["ray"], found["local"], "head_roles")


class Told(Worker):
    """Notes for each shard which GPUs it was given."""

    def do(self, shard: Any, directory: Path, run: Any) -> Any:
        Path(directory.parent / f"gpus-{shard.index}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        return super().do(shard, directory, run)


@pytest.mark.slow
def test_a_worker_of_two_gpus_spreads_its_model(
    cluster: Any, batch: Batch, llama_directory: Path, tmp_path: Path
) -> None:
    """Ray counts the GPUs that a node is said to have; where none is, layers go to the processor and disk."""
    node = cluster.add_node(num_cpus=1, num_gpus=2)
    prompts = write_prompts(tmp_path / "a.jsonl", 6)
    places = {"model.embed_tokens": "cpu", "model.rotary_emb": "cpu", "model.norm": "cpu", "lm_head": "cpu"}
    places |= {f"model.layers.{layer}": ("disk", "cpu")[layer % 2] for layer in range(4)}
    (tmp_path / "map.json").write_text(json.dumps(places))
    source = ModelSource(str(llama_directory), device_map=str(tmp_path / "map.json"))
    how = BatchOptions(
        shard_size=2, engine="ray", ray=RayOptions(address=cluster.address, actors=1, cpus=0, gpus=2)
    )
    with PromptFile(prompts) as file:
        standing = run(file, tmp_path / "ray", RayEngine(source, QUICK, how, make=Told), how)
    cluster.remove_node(node)
    assert (standing.prompts, standing.errors) == (6, 0)
    assert {path.read_text() for path in tmp_path.glob("gpus-*")} == {"0,1"}
    batch(prompts, tmp_path / "local", shard_size=2)
    one, two = (elimtool.open_run(tmp_path / name) for name in ("ray", "local"))
    assert set((one.manifest.device_map or {}).values()) == {"cpu", "disk"}
    for name in two.tables:
        assert_same(one.table(name), two.table(name), name)


@pytest.mark.slow
def test_too_small_a_cluster_a_bad_model_and_an_unshared_disk_are_told(
    cluster: Any, llama_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 4)
    with pytest.raises(ElimError, match="has room for 0 actors with 1 CPUs and 1 GPUs each"):
        on_ray(prompts, tmp_path / "a", llama_directory, address=cluster.address, gpus=1)
    with pytest.raises(ElimError, match="not 9"):
        on_ray(prompts, tmp_path / "b", llama_directory, address=cluster.address, actors=9)
    with pytest.raises(ElimError, match="none"):
        on_ray(prompts, tmp_path / "c", tmp_path / "none", address=cluster.address, actors=1)
    # a disk of this machine alone: the nodes look for the same path and find nothing
    monkeypatch.setattr(preflight, "_sees", lambda path: Path(f"/elsewhere{path}").exists())
    with pytest.raises(ElimError, match=f"the Ray node .* does not see {tmp_path / 'd'}") as told:
        on_ray(prompts, tmp_path / "d", llama_directory, address=cluster.address, actors=1)
    assert "all nodes share" in told.value.hint
    assert not list((tmp_path / "d").rglob("*seen*"))


@pytest.mark.slow
def test_a_shard_that_always_kills_its_worker_or_fills_memory_becomes_error_rows_and_once_costs_nothing(
    cluster: Any, llama_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = write_prompts(tmp_path / "a.jsonl", 8)
    from elimtool.tasks.batch import cluster as module

    class Dying(module.Member):
        """Loads its model when it first needs it; a shard that kills its workers costs no load then."""

        def load(self, *asked: Any) -> None:
            if not (slow := tmp_path / "slow").exists():
                slow.touch()
                time.sleep(9)  # longer than the run waits for a worker that is not alive
            self.asked = asked

        def manifest(self, *facts: Any) -> Any:
            super().load(*self.asked)
            return super().manifest(*facts)

        def do(self, shard: Any, directory: Path, run: Any) -> Any:
            import os

            import ray

            if shard.index == 1:
                os._exit(1)
            if shard.index == 3:  # what Ray raises where its monitor kills a worker
                raise ray.exceptions.OutOfMemoryError("1 worker killed: the node runs low on memory.\n")
            if shard.index == 2 and not (once := Path(directory).parent / "once").exists():
                once.touch()
                os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out
            if not hasattr(self, "worker"):
                super().load(*self.asked)
            return super().do(shard, directory, run)

    monkeypatch.setattr(module, "Member", Dying)
    how = {"address": cluster.address, "actors": 1, "attempts": 2}
    engine, standing = on_ray(prompts, tmp_path / "run", llama_directory, patience=30.0, **how)
    assert (standing.prompts, standing.errors, engine.lost) == (8, 4, 5)
    rows = elimtool.open_run(tmp_path / "run").prompts
    assert rows["prompt_id"].tolist() == [f"p{n}" for n in range(8)]
    assert rows["status"].tolist() == (["ok"] * 2 + ["error"] * 2) * 2
    assert "the shard's worker died 2 times" in rows["error_message"][3]
    assert rows["error_type"][7] == "OutOfMemoryError"
    assert "runs low on memory; if memory ran out: lower `batch_size`" in rows["error_message"][7]


@pytest.mark.slow
def test_a_model_that_does_not_fit_into_memory_is_told_and_not_loaded_for_ever(
    cluster: Any, llama_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from elimtool.tasks.batch import cluster as module

    class Large(module.Member):
        def load(self, *asked: Any) -> None:
            import os

            os.kill(os.getpid(), signal.SIGKILL)  # as the system does

    monkeypatch.setattr(module, "Member", Large)
    prompts = write_prompts(tmp_path / "a.jsonl", 4)
    with pytest.raises(ElimError, match="no Ray worker could load the model: 2 died") as told:
        on_ray(prompts, tmp_path / "a", llama_directory, address=cluster.address, actors=1, attempts=2)
    assert told.value.exit_code == Exit.PARTIAL
    assert "`actors`" in told.value.hint and "`dtype`" in told.value.hint


@pytest.mark.slow
def test_a_node_whose_memory_is_full_is_named(cluster: Any, llama_directory: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:  # for Ray's own monitor
        patch.setenv("RAY_memory_usage_threshold", "0.01")
        patch.setenv("RAY_memory_monitor_refresh_ms", "50")
        full = cluster.add_node(num_cpus=1)
    prompts = write_prompts(tmp_path / "a.jsonl", 4)
    try:
        with pytest.raises(ElimError, match=r"cannot run a worker: .* low on memory") as told:
            on_ray(prompts, tmp_path / "a", llama_directory, address=cluster.address, actors=1)
    finally:
        cluster.remove_node(full)
    assert told.value.exit_code == Exit.PARTIAL and "free memory there" in told.value.hint


def test_a_dead_address_is_told_at_once(tmp_path: Path, llama_directory: Path) -> None:
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    prompts = write_prompts(tmp_path / "a.jsonl", 4)
    started = time.monotonic()
    with pytest.raises(ElimError, match=f"no Ray cluster answers at 127.0.0.1:{port}"):
        on_ray(prompts, tmp_path / "run", llama_directory, address=f"127.0.0.1:{port}")
    assert time.monotonic() - started < 10
    with pytest.raises(ElimError, match="`address` must be auto or HOST:PORT, got 'here'"):
        on_ray(prompts, tmp_path / "run", llama_directory, address="here")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (None, "no Ray cluster answers"),
        (b"", "no Ray cluster answers|is not a Ray head node"),  # closed before or after the greeting
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "is not a Ray head node"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is not a Ray head node"),
    ],
    ids=["silent", "closes", "http", "ssh"],
)
def test_a_port_of_something_else_is_told_at_once(answer: bytes | None, told: str) -> None:
    ray = pytest.importorskip("ray")
    done = threading.Event()

    def serve(listening: socket.socket) -> None:
        link, _ = listening.accept()
        with link:
            if answer is None:
                done.wait(30)
            else:
                link.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = threading.Thread(target=serve, args=(listening,))
        server.start()
        try:
            with pytest.raises(ElimError, match=told):
                preflight.connect(ray, f"127.0.0.1:{listening.getsockname()[1]}", within=1.0)
        finally:
            done.set()
            server.join()
