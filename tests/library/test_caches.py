from __future__ import annotations

from pathlib import Path

import grpc
import pytest
from gguf import GGMLQuantizationType as Kind

from checkpoints import make_llama
from engines.driving import STARTER
from library.caches import fingerprint, hugging_face, ollama, starter
from lineages.kinds import llama as llama_of
from lineages.make import Shape, make
from potluck_proto.errors import ModelFileError
from potluck_proto.home import Home
from potluck_proto.v1 import worker_pb2 as pb
from potluck_worker.library.caches import OLLAMA_MODEL, Borrowed, borrowed_models
from potluck_worker.models import ModelStore
from potluck_worker.settings import WorkerSettings
from worker.conftest import running
from worker.stores import MANY, store

VARIABLES = ("OLLAMA_MODELS", "LLAMA_CACHE", "HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's home without any model."""
    user = tmp_path / "user"
    user.mkdir()
    monkeypatch.setenv("HOME", str(user))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return user


def names() -> dict[str, Borrowed]:
    return {model.name: model for model in borrowed_models()}


def looking(folder: Path) -> ModelStore:
    folder.mkdir(exist_ok=True)
    settings = WorkerSettings(context_length=256, slots=1, use_caches=True)
    return store(folder, settings=settings)


def test_the_models_of_ollama_are_called_by_name_and_tag(user: Path) -> None:
    blob = ollama(user, "llama3.1", "latest", "8b-instruct-q8_0")
    (model,) = names().values()
    assert model.path == blob
    assert model.name == "llama3.1-8b-instruct-q8_0"
    assert model.remove_with == "ollama rm llama3.1:8b-instruct-q8_0"


def test_a_model_of_ollama_with_an_adapter_is_another_model(user: Path) -> None:
    ollama(user, "pirate", adapter=True)
    assert not names()


@pytest.mark.parametrize(
    "manifest",
    [
        "",
        "[]",
        '{"layers": 3}',
        '{"layers": [3]}',
        f'{{"layers": [{{"mediaType": "{OLLAMA_MODEL}", "digest": "sha256:../x"}}]}}',
    ],
)
def test_a_manifest_that_is_none_is_passed_over(user: Path, manifest: str) -> None:
    ollama(user)
    (path,) = (user / ".ollama/models/manifests").glob("*/*/*/*")
    path.write_text(manifest)
    assert not names()


def test_the_models_of_lm_studio_are_in_folders_of_makers(user: Path) -> None:
    folder = user / ".lmstudio/models/maker"
    starter(folder / "Model-GGUF/Model-Q8_0.gguf")
    starter(folder / "Model-GGUF/mmproj-Model-f16.gguf")
    make_llama(folder / "Other-MLX")
    starter(user / ".cache/lm-studio/models/maker/Old/Old-Q8_0.gguf")
    assert set(names()) == {"Model-Q8_0", "Other-MLX", "Old-Q8_0"}


def test_the_downloads_of_llama_cpp_are_called_as_their_files_were(user: Path) -> None:
    folder = user / ".cache/llama.cpp"
    path = starter(folder / "maker_Model-GGUF_model-Q8_0.gguf")
    noted = '{"url": "https://hub.example/maker/Model-GGUF/resolve/main/model-Q8_0.gguf?x=1"}'
    path.with_name(f"{path.name}.json").write_text(noted)
    starter(folder / "plain.gguf")
    assert set(names()) == {"model-Q8_0", "plain"}


def test_the_snapshot_that_counts_in_the_hubs_cache_is_found(user: Path) -> None:
    snapshot = hugging_face(user, "maker/Model-GGUF", "model-Q8_0.gguf", "mmproj-model.gguf")
    older = snapshot.with_name("b" * 40)
    older.mkdir()
    (older / "model-Q4_0.gguf").symlink_to(snapshot / "model-Q8_0.gguf")
    checkpoint = hugging_face(user, "maker/Checkpoint")
    checkpoint.rmdir()
    make_llama(checkpoint)
    tokenizer = hugging_face(user, "maker/Only-Tokenizer")
    (tokenizer / "config.json").write_text("{}")
    found = names()
    assert set(found) == {"model-Q8_0", "Checkpoint"}
    assert found["model-Q8_0"].remove_with == "hf cache rm model/maker/Model-GGUF"


def test_caches_that_the_environment_names_are_found(
    user: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ollama(tmp_path / "a")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "a/.ollama/models"))
    starter(tmp_path / "b/one.gguf")
    monkeypatch.setenv("LLAMA_CACHE", str(tmp_path / "b"))
    hugging_face(tmp_path / "c", "maker/two", "two.gguf")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "c/.cache/huggingface"))
    assert set(names()) == {"llama3.1", "one", "two"}


async def test_a_link_out_of_a_cache_is_not_followed_and_the_reason_is_listed(
    user: Path, tmp_path: Path
) -> None:
    outside = starter(tmp_path / "secret.gguf")
    snapshot = hugging_face(user, "maker/evil", "good.gguf")
    (snapshot / "evil.gguf").symlink_to(outside)
    models = looking(tmp_path / "models")
    assert (await models.find("good", "", MANY)).problem is None
    with pytest.raises(ModelFileError, match="outside of it"):
        await models.find("evil", "", MANY)


async def test_models_are_used_where_they_are_and_nothing_of_them_changes(
    user: Path, tmp_path: Path
) -> None:
    ollama(user, "llama3.1", "8b")
    starter(user / ".lmstudio/models/maker/Model/Model-Q8_0.gguf")
    starter(user / ".cache/llama.cpp/third.gguf")
    hugging_face(user, "maker/Fourth", "fourth-Q8_0.gguf")
    make_llama(user / ".cache/huggingface/hub/models--maker--Fifth/snapshots" / ("c" * 40))
    before = fingerprint(user)
    models = looking(tmp_path / "models")
    await models.scan()
    owners = {model.name: model.borrowed.owner for model in models.models if model.borrowed}
    assert owners == {
        "llama3.1-8b": "Ollama",
        "Model": "LM Studio",
        "third": "llama.cpp",
        "fourth": "Hugging Face",
        "Fifth": "Hugging Face",
    }
    found = await models.find("llama3.1-8b", "Q8_0", MANY)
    assert found.path.name.startswith("sha256-")
    assert fingerprint(user) == before


def laid_out(user: Path, outside: Path) -> None:
    """Lay out all caches, each with a model and a link that leads out of it."""
    ollama(user, "one", "8b")
    blob = ollama(user, "evil", content=b"of its own")
    blob.unlink()
    blob.symlink_to(outside)
    studio, llama = user / ".lmstudio/models/maker", user / ".cache/llama.cpp"
    starter(studio / "Two-GGUF/two.gguf")
    starter(llama / "three.gguf")
    (studio / "Two-GGUF/evil-two.gguf").symlink_to(llama / "three.gguf")
    (llama / "evil-three.gguf").symlink_to(outside)
    snapshot = hugging_face(user, "maker/Four", "four.gguf")
    (snapshot / "evil-four.gguf").symlink_to(outside)
    pickles = make_llama(studio / "Pickle")
    (pickles / "model.safetensors").rename(pickles / "pytorch_model.bin")
    # Of a name that another has, and other content: in the same cache, and in another.
    for layers, folder in enumerate(
        (hugging_face(user, "other/Four"), hugging_face(user, "third/Four"), llama), 1
    ):
        kind = llama_of(Shape(layers=layers))
        make(folder / ("two.gguf" if folder == llama else "four.gguf"), kind, Kind.Q8_0)


async def test_each_cache_is_used_where_it_is_whatever_lies_in_it_and_never_changed(
    user: Path, tmp_path: Path, short_tmp: Path
) -> None:
    laid_out(user, starter(tmp_path / "outside.gguf"))
    before = fingerprint(tmp_path)
    home = Home(short_tmp)
    home.prepare()
    async with running(home, WorkerSettings(name="n", use_caches=True)) as worker:
        await worker.daemon.store.scan()
        models = {model.name: model for model in (await worker.state()).models if not model.starter}
        usable = {name: m for name, m in models.items() if not m.HasField("problem")}
        fours = ("four", "four-hugging-face", "four-hugging-face-2")
        assert set(usable) == {"one-8b", "two", "two-llama.cpp", "three", *fours}
        assert len({usable[name].parameter_count for name in fours}) == len(fours)
        problems = {n: m.problem.message for n, m in models.items() if n not in usable}
        assert set(problems) == {"evil", "evil-two", "evil-three", "evil-four", "Pickle"}
        assert "pytorch_model.bin), which can run program code" in problems.pop("Pickle")
        for problem in problems.values():
            assert "outside of it, and is not followed" in problem
        for name, described in usable.items():
            assert await worker.ask(name, max_tokens=2)
            asked = pb.InspectRequest(model=name, hashes=True)
            detail = (await worker.stub.Inspect(asked)).detail
            assert detail.hashes
            assert detail.description.parameter_count == described.parameter_count
        for name in problems:
            asked = pb.InspectRequest(model=name, hashes=True)
            assert not (await worker.stub.Inspect(asked)).detail.hashes
            with pytest.raises(grpc.aio.AioRpcError, match="and is not followed"):
                await worker.stub.SendModel(pb.SendModelRequest(model=name)).read()
        for name in models:
            with pytest.raises(grpc.aio.AioRpcError):
                await worker.stub.Remove(pb.RemoveRequest(model=name))
        await worker.stub.Prune(pb.PruneRequest())
    assert fingerprint(tmp_path) == before


async def test_a_borrowed_model_gives_way_to_one_of_the_same_name(
    user: Path, tmp_path: Path
) -> None:
    starter(user / ".cache/llama.cpp/model-Q8_0.gguf")
    starter(tmp_path / "models/model-Q8_0.gguf")
    models = looking(tmp_path / "models")
    await models.scan()
    assert (await models.find("model", "Q8_0", MANY)).borrowed is None
    assert (await models.find("model-llama.cpp", "", MANY)).borrowed is not None


async def test_a_link_to_a_borrowed_model_is_not_listed_twice(user: Path, tmp_path: Path) -> None:
    theirs = starter(user / ".cache/llama.cpp/model-Q8_0.gguf")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine.gguf").symlink_to(theirs)
    models = looking(tmp_path / "models")
    await models.scan()
    assert {model.name for model in models.models} == {"mine", STARTER.stem.removesuffix("-Q8_0")}


async def test_the_settings_can_leave_them_alone(user: Path, tmp_path: Path) -> None:
    ollama(user)
    (tmp_path / "models").mkdir()
    models = store(tmp_path / "models", settings=WorkerSettings(use_caches=False))
    await models.scan()
    assert not any(model.borrowed for model in models.models)
