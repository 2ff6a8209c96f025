# SPDX-License-Identifier: MIT
"""Images behind a disk: what is wrong with a file, locks, and formats that QEMU's tools serve."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from blk_rig import DISCARD, FLUSH, IN, IOERR, OK, OUT, WRITE_ZEROES, Disk
from split_driver import wait_for

from vdesktop_core._native import ffi, lib
from vdesktop_core.devices.base import DeviceContext
from vdesktop_core.devices.blk import DISK_FORMATS, BlkConfig
from vdesktop_core.devices.blk.device import BlkDevice
from vdesktop_core.errors import DeviceError
from vdesktop_core.hypervisor import Arch

if TYPE_CHECKING:
    from collections.abc import Iterator

QEMU = pytest.mark.skipif(
    not (shutil.which("qemu-nbd") and shutil.which("qemu-img")), reason="needs qemu-utils"
)


class DeviceDisk(Disk):
    """A disk made from its configuration, as a machine makes it."""

    def __init__(self, config: BlkConfig) -> None:
        from split_driver import Rig

        self.rig = Rig()
        self.n_queues = config.queues
        context = DeviceContext(
            name="disk0",
            machine="test",
            arch=Arch.X86_64,
            memory=self.rig.memory,
            host=self.rig.host.native,
            loop=self.rig.thread.native,
            call_soon=lambda _job: None,
            plugins={"disk": {disk_format.name: disk_format for disk_format in DISK_FORMATS}},
        )
        try:
            self.device = BlkDevice(config, context)
        except BaseException:
            self.rig.free()
            raise
        self.rig.attach(self.device.native)

    def close(self) -> None:
        self.rig.close()
        self.device.close()


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[DeviceDisk]:
    disk = DeviceDisk(BlkConfig(path=str(path), **options))
    try:
        disk.start()
        yield disk
    finally:
        disk.close()
        disk.rig.free()


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(DeviceError) as caught, opened(path, **options):
        pass
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def blank(path: Path, size: int = 1 << 20) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(os.urandom(1 << 20))
    return path


# What is wrong with a file


def test_missing_file_is_one_line_with_a_remedy(tmp_path: Path) -> None:
    assert "does not exist: create it" in refusal(tmp_path / "none.img")
    assert "does not exist" in refusal(tmp_path / "none.qcow2")


def test_directory_is_refused(tmp_path: Path) -> None:
    assert "is a directory" in refusal(tmp_path)


def test_special_file_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert "neither a file nor a block device" in refusal(tmp_path / "fifo")


def test_empty_file_is_refused(tmp_path: Path) -> None:
    assert "is empty: give it a size" in refusal(blank(tmp_path / "a.img", 0))


def test_odd_size_is_refused_with_the_next_good_one(tmp_path: Path) -> None:
    assert "truncate -s 1024 " in refusal(blank(tmp_path / "a.img", 1000))


def test_size_against_block_size_is_refused(tmp_path: Path) -> None:
    assert "no multiple of its block size 4096" in refusal(
        blank(tmp_path / "a.img", 4096 + 512), block_size=4096
    )


@contextmanager
def as_nobody() -> Iterator[Path]:
    """A folder that an ordinary user may enter, and being one, for root may open everything."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        shutil.rmtree(folder)


def test_read_only_file_opened_for_writing_says_ro() -> None:
    with as_nobody() as folder:
        os.seteuid(os.getuid())
        path = blank(folder / "a.img")
        path.chmod(0o444)
        if os.getuid() == 0:
            os.seteuid(65534)
        assert "add ,ro, or make it writable" in refusal(path)
        with opened(path, readonly=True) as disk:
            assert disk.request(OUT, 0, bytes(512)) == IOERR


def test_unreadable_file_is_refused() -> None:
    with as_nobody() as folder:
        os.seteuid(os.getuid())
        path = blank(folder / "a.img")
        path.chmod(0)
        if os.getuid() == 0:
            os.seteuid(65534)
        assert "cannot be opened: Permission denied" in refusal(path)


# Locks

HOLDER = """
import sys
from pathlib import Path
from vdesktop_core.devices.blk.store import lock_image, open_image
path, readonly = Path(sys.argv[1]), sys.argv[2] == "ro"
fd = open_image(path, readonly=readonly)
lock_image(fd, path, readonly=readonly)
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(path: Path, how: str) -> Iterator[None]:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(path), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        yield
        holder.communicate("")


@pytest.mark.parametrize(("first", "second"), [("rw", False), ("rw", True), ("ro", False)])
def test_image_in_use_is_refused(image: Path, first: str, second: bool) -> None:
    with held(image, first):
        assert "another machine or process: stop that one first" in refusal(image, readonly=second)
    with opened(image, readonly=second):
        pass


def test_image_may_have_many_readers(image: Path) -> None:
    with held(image, "ro"), opened(image, readonly=True) as disk:
        assert disk.read(0, 512) == image.read_bytes()[:512]


def test_same_image_twice_in_one_process_is_refused(image: Path) -> None:
    with opened(image):
        assert "in use by" in refusal(image)


@QEMU
def test_lock_keeps_qemus_tools_out_and_theirs_keeps_us_out(image: Path) -> None:
    with opened(image):
        done = subprocess.run(
            ["qemu-io", "-f", "raw", "-c", "write 0 512", str(image)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert 'Failed to get "write" lock' in done.stderr
        assert done.returncode != 0


# The device over real images


@pytest.mark.parametrize("cache", ["writeback", "writethrough", "none"])
def test_raw_image_keeps_what_was_written(image: Path, cache: str) -> None:
    data = os.urandom(64 << 10)
    with opened(image, cache=cache) as disk:
        assert disk.request(OUT, 16, data) == OK
        assert disk.request(FLUSH) == OK
        counters = disk.device.counters()
        assert counters["written_bytes"] == len(data)
        assert counters["flushes"] == 1
    assert image.read_bytes()[8192:][: len(data)] == data


def test_serial_and_queues_come_from_the_configuration(image: Path) -> None:
    with opened(image, serial="S1", queues=2) as disk:
        assert disk.request(8, into=20) == OK
        assert disk.data(20) == b"S1".ljust(20, b"\0")
        assert disk.request(IN, 0, into=512, index=1) == OK


def test_device_that_cannot_be_created_leaves_no_descriptor_open(tmp_path: Path) -> None:
    path = blank(tmp_path / "a.img", 4096 + 512)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        refusal(path, block_size=4096)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[Path]:
    backing = blank(tmp_path / "backing.img", 4 << 20)
    done = subprocess.run(
        ["losetup", "--find", "--show", str(backing)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("no loop devices here")
    yield Path(done.stdout.strip())
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


@pytest.mark.host("loop devices")
def test_block_device_is_a_disk(loop_device: Path) -> None:
    data = os.urandom(8192)
    with opened(loop_device) as disk:
        assert disk.rig.config(0, 8) == (4 << 20) // 512
        assert disk.request(OUT, 8, data) == OK
        assert disk.request(FLUSH) == OK
        assert disk.read(8, 8192) == data
        assert disk.request(DISCARD, data=(8).to_bytes(8, "little") + (8).to_bytes(8, "little")) == OK
        assert disk.request(WRITE_ZEROES, data=(16).to_bytes(8, "little") + (8).to_bytes(8, "little")) == OK
        assert disk.read(16, 4096) == bytes(4096)


# qcow2 and others, through qemu-nbd


def create(path: Path, image_format: str = "qcow2", size: str = "64M", *more: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, *more, str(path), size], check=True)
    return path


def children() -> set[str]:
    """Command lines of our qemu-nbd processes that still run."""
    found = set()
    for task in Path("/proc").glob("[0-9]*"):
        try:
            command = (task / "cmdline").read_bytes()
            parent = int((task / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            continue
        if parent == os.getpid() and b"qemu-nbd" in command:
            found.add(command.decode())
    return found


@pytest.fixture(autouse=True)
def own_temporary_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """Others' servers are not ours to count. Not under tmp_path, which is too long for a socket's name."""
    tmp_path_factory.getbasetemp()  # pytest's own is made where others expect it
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield


def leftovers() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("vdesktop-nbd-*")}


@QEMU
def test_qcow2_round_trip_is_what_qemu_img_reads(tmp_path: Path) -> None:
    path = create(tmp_path / "disk.qcow2")
    big, small = os.urandom(512 << 10), os.urandom(512)
    before = leftovers()
    with opened(path) as disk:
        assert disk.rig.config(0, 8) == (64 << 20) // 512
        assert disk.request(OUT, 100, big) == OK
        assert disk.request(OUT, 131071, small) == OK
        assert disk.request(FLUSH) == OK
        assert disk.read(100, 512 << 10) == big
        assert disk.read(131071, 512) == small
        assert leftovers() == before, "the socket is gone once connected"
        assert len(children()) == 1
    assert children() == set()
    subprocess.run(["qemu-img", "check", "-q", str(path)], check=True)
    raw = tmp_path / "raw.img"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(path), str(raw)], check=True)
    expected = bytearray(64 << 20)
    expected[51200 : 51200 + len(big)] = big
    expected[131071 * 512 :] = small
    assert raw.read_bytes() == expected


@QEMU
def test_qcow2_discard_gives_space_back(tmp_path: Path) -> None:
    path = create(tmp_path / "disk.qcow2")
    with opened(path) as disk:
        assert disk.request(OUT, 0, os.urandom(1 << 20)) == OK
        assert disk.request(FLUSH) == OK
        full = path.stat().st_blocks
        assert disk.request(DISCARD, data=(0).to_bytes(8, "little") + (2048).to_bytes(8, "little")) == OK
        assert disk.request(FLUSH) == OK
        assert path.stat().st_blocks < full
        assert disk.read(0, 4096) == bytes(4096)


@QEMU
def test_qcow2_scattered_requests_are_gathered(tmp_path: Path) -> None:
    from split_driver import FREE

    with opened(create(tmp_path / "disk.qcow2")) as disk:
        data = os.urandom(4096)
        disk.prepare(OUT, 3, data)
        parts = [(FREE + 0x1000 + 1000 * i, min(1000, 4096 - 1000 * i)) for i in range(5)]
        scattered = [(at + 0x10000 * i, n) for i, (at, n) in enumerate(parts)]
        for (at, n), (to, _) in zip(parts, scattered, strict=True):
            disk.rig.memory.write(to, disk.rig.memory.read(at, n))
        disk.rig.add([(FREE, 16), *scattered], [(FREE + 0x800, 1)])
        disk.rig.kick()
        disk.rig.wait_used()
        assert disk.status() == OK
        assert disk.read(3, 4096) == data


@QEMU
def test_qcow2_read_only_refuses_writes(tmp_path: Path) -> None:
    path = create(tmp_path / "disk.qcow2")
    content = path.read_bytes()
    with opened(path, readonly=True) as disk:
        assert disk.request(OUT, 0, bytes(512)) == IOERR
        assert disk.read(0, 512) == bytes(512)
    assert path.read_bytes() == content


@QEMU
@pytest.mark.parametrize("image_format", ["vmdk", "vhdx", "vdi", "vpc"])
def test_other_formats_open(tmp_path: Path, image_format: str) -> None:
    data = os.urandom(4096)
    with opened(create(tmp_path / "disk", image_format), format=image_format) as disk:
        assert disk.request(OUT, 8, data) == OK
        assert disk.read(8, 4096) == data
    assert children() == set()


@QEMU
def test_file_of_another_format_is_refused_and_no_server_left(tmp_path: Path) -> None:
    assert "is not a qcow2 image" in refusal(blank(tmp_path / "disk.qcow2"))
    assert children() == set()
    assert leftovers() == set()


@QEMU
def test_qcow2_in_use_is_refused(tmp_path: Path) -> None:
    path = create(tmp_path / "disk.qcow2")
    with opened(path):
        assert "is in use by another" in refusal(path)
    assert children() == set()


@QEMU
def test_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    create(tmp_path / "plain.qcow2").rename(tmp_path / "nbd:x.qcow2")
    with opened(Path("nbd:x.qcow2")) as disk:
        assert disk.read(0, 512) == bytes(512)


def test_without_qemu_nbd_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install qemu-utils" in refusal(blank(tmp_path / "disk.qcow2"))


@QEMU
def test_server_that_dies_gives_io_errors_and_the_machine_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import signal

    with opened(create(tmp_path / "disk.qcow2")) as disk:
        assert disk.read(0, 512) == bytes(512)
        (pid,) = (
            int(task.name)
            for task in Path("/proc").glob("[0-9]*")
            if f"{tmp_path}/disk.qcow2".encode() in _read(task / "cmdline")
        )
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: "ended with status" in caplog.text, "the log line")
        assert disk.request(IN, 0, into=512) == IOERR
        assert disk.request(FLUSH) == IOERR
        assert disk.device.counters()["errors"] == 2


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@QEMU
def test_server_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    path = create(tmp_path / "disk.qcow2")
    program = f"""
        import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from test_blk_images import opened
        with opened(Path({str(path)!r})):
            print("open", flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as victim:
        assert victim.stdout is not None
        assert victim.stdout.readline() == b"open\n"
        victim.kill()
    wait_for(lambda: _served(path) == [], "the end of qemu-nbd")
    subprocess.run(["qemu-img", "check", "-q", str(path)], check=True)


def _served(path: Path) -> list[str]:
    return [
        task.name for task in Path("/proc").glob("[0-9]*") if str(path).encode() in _read(task / "cmdline")
    ]


def test_layout_of_the_store_is_known_to_python() -> None:
    """The stub of the tests fills this structure by name."""
    names = [name for name, _ in ffi.typeof("struct vd_blk_store").fields]
    assert names[:6] == ["readv", "writev", "flush", "discard", "write_zeroes", "close"]
    assert lib.VD_BLK_NOWAIT == 1
