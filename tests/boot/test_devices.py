# SPDX-License-Identifier: MIT
"""What a guest does with its devices. All tests of one architecture share one boot."""

from __future__ import annotations

import hashlib
import random
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from guest import Equipped

MEBIBYTE = 1 << 20


def noise(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_boot_reaches_a_shell_of_the_images_kernel(equipped: Equipped) -> None:
    kernel, machine = equipped.guest.run("uname -r -m").split()
    assert machine == equipped.guest.image.arch
    manifest = (equipped.guest.image.folder / "manifest.json").read_text()
    assert f"linux-image-{kernel}" in manifest


def test_boot_leaves_no_oops_or_warning_in_the_log(equipped: Equipped) -> None:
    complaints = equipped.guest.run(
        r"dmesg | grep -E 'BUG:|Oops|WARNING: CPU|Call Trace|rcu.*stall|soft lockup'", check=False
    )
    assert complaints == ""


def test_every_virtio_device_has_a_driver(equipped: Equipped) -> None:
    unbound = equipped.guest.run(
        "for d in /sys/bus/virtio/devices/*; do [ -e $d/driver ] || cat $d/device; done"
    )
    # A device with an experimental number is not for a stock kernel.
    assert [number for number in unbound.split() if int(number, 16) < 0xF000] == []


def test_disk_write_is_on_the_hosts_file_after_fsync(equipped: Equipped) -> None:
    guest = equipped.guest
    guest.run("dd if=/dev/urandom of=/tmp/noise bs=1M count=4 2>/dev/null")
    guest.run("dd if=/tmp/noise of=/dev/vda bs=64k seek=16 conv=fsync 2>/dev/null")
    inside = guest.run("sha256sum </tmp/noise; rm /tmp/noise").split()[0]
    with equipped.disk.open("rb") as file:
        file.seek(MEBIBYTE)
        assert digest(file.read(4 * MEBIBYTE)) == inside


def test_disk_direct_read_has_the_hosts_bytes(equipped: Equipped) -> None:
    data = noise(2 * MEBIBYTE, seed=1)
    with equipped.disk.open("r+b") as file:
        file.seek(8 * MEBIBYTE)
        file.write(data)
    command = "dd if=/dev/vda bs=4k skip=2048 count=512 iflag=direct 2>/dev/null | sha256sum"
    assert equipped.guest.run(command).split()[0] == digest(data)


def test_disk_has_the_size_of_its_file(equipped: Equipped) -> None:
    sectors = int(equipped.guest.run("cat /sys/block/vda/size"))
    assert sectors * 512 == equipped.disk.stat().st_size


def test_readonly_disk_reads_and_refuses_writes(equipped: Equipped) -> None:
    guest = equipped.guest
    before = digest(equipped.readonly.read_bytes())
    assert guest.run("cat /sys/block/vdb/ro") == "1"
    assert guest.run("sha256sum </dev/vdb").split()[0] == before
    guest.run("! dd if=/dev/zero of=/dev/vdb bs=4k count=1 conv=fsync 2>/dev/null")
    assert digest(equipped.readonly.read_bytes()) == before


def test_network_carries_a_stream_from_the_guest(equipped: Equipped) -> None:
    guest = equipped.guest
    guest.network()
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(120)

        def receive() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(120)
                while data := connection.recv(65536):
                    received.extend(data)

        thread = threading.Thread(target=receive)
        thread.start()
        guest.run("dd if=/dev/urandom of=/tmp/out bs=1M count=4 2>/dev/null")
        guest.run(f"nc 10.0.2.2 {server.getsockname()[1]} </tmp/out", timeout=150)
        inside = guest.run("sha256sum </tmp/out; rm /tmp/out").split()[0]
        thread.join(150)
    assert len(received) == 4 * MEBIBYTE
    assert digest(bytes(received)) == inside


def test_network_forwards_a_host_port_into_the_guest(equipped: Equipped) -> None:
    guest = equipped.guest
    guest.network()
    data = noise(4 * MEBIBYTE, seed=2)
    guest.run("nc -l -p 5000 </dev/null >/tmp/in &")
    guest.until("netstat -ltn | grep -q :5000")
    with socket.create_connection(("127.0.0.1", equipped.port), timeout=120) as connection:
        connection.sendall(data)
    # nc ends at the end of the stream.
    guest.run("wait", timeout=150)
    assert guest.run("sha256sum </tmp/in; rm /tmp/in").split()[0] == digest(data)


def test_entropy_comes_from_the_virtio_device(equipped: Equipped) -> None:
    guest = equipped.guest
    assert guest.run("cat /sys/class/misc/hw_random/rng_current").startswith("virtio_rng")
    first, second = (guest.run("dd if=/dev/hwrng bs=64 count=1 2>/dev/null | sha256sum") for _ in range(2))
    assert first != second
    assert guest.run("dd if=/dev/hwrng bs=1 count=256 2>/dev/null | wc -c") == "256"


def test_console_output_of_a_megabyte_arrives_whole(equipped: Equipped) -> None:
    guest = equipped.guest
    guest.run("head -c 786432 /dev/urandom | base64 >/tmp/text")
    inside = guest.run("sha256sum </tmp/text").split()[0]
    text = guest.run("cat /tmp/text", timeout=240)
    guest.run("rm /tmp/text")
    assert len(text) > MEBIBYTE
    assert digest(text.encode() + b"\n") == inside


def test_console_input_of_a_megabyte_arrives_whole(equipped: Equipped) -> None:
    guest = equipped.guest
    # Text: on this kind of console, Ctrl-O and a letter mean something to the kernel itself.
    data = noise(MEBIBYTE // 2, seed=3).hex().encode()
    # dd goes on after a short read. On a loaded host, busybox's head ended after one, a few times.
    take = f"dd bs=4096 count={len(data) // 4096} iflag=fullblock 2>/dev/null"
    guest.terminal.send(f"stty raw; echo '<<''raw>>'; {take} | sha256sum; stty -raw -echo\n".encode())
    guest.terminal.expect("<<raw>>")
    guest.terminal.send(data, timeout=240)
    seen = guest.terminal.expect(r"([0-9a-f]{64})  -", 240)
    assert seen[1].decode() == digest(data)


def test_console_line_of_4000_characters_is_one_line(equipped: Equipped) -> None:
    word = "x" * 3900
    assert equipped.guest.run(f"echo {word} | wc -c") == "3901"


def test_console_resize_reaches_the_guest(equipped: Equipped) -> None:
    guest = equipped.guest
    guest.terminal.resize(101, 37)
    guest.until("[ \"$(stty size)\" = '37 101' ]")


def test_clock_and_timers_of_the_guest_are_not_fast(equipped: Equipped) -> None:
    begun = time.monotonic()
    seconds = equipped.guest.run(
        "read a b </proc/uptime; sleep 2; read c d </proc/uptime; echo $a $c"
    ).split()
    passed = time.monotonic() - begun
    inside = float(seconds[1]) - float(seconds[0])
    assert 1.98 <= inside <= passed + 0.1  # uptime has hundredths, cut off


def test_time_of_day_of_the_guest_is_the_hosts(equipped: Equipped) -> None:
    before = int(time.time())
    told = int(equipped.guest.run("date +%s"))
    assert before - 60 <= told <= time.time() + 60
