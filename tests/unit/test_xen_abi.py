# SPDX-License-Identifier: MIT
"""What the xen backend declares of Xen is what Xen's headers say, where there are any."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "backends/xen/vdesktop_xen/native"
#: libxen-dev's, or those that the rig has fetched.
INCLUDES = (Path("/usr/include"), ROOT / ".cache/rigs/xen-4.17/root/usr/include")

#: Our structure, Xen's, and fields of ours by Xen's where the names differ.
STRUCTURES = {
    "vx_ioreq": ("ioreq", "addr data count size vp_eport type", {}),
    "vx_createdomain": (
        "xen_domctl_createdomain",
        "ssidref handle flags iommu_opts max_vcpus max_evtchn_port max_grant_frames max_maptrack_frames "
        "grant_opts vmtrace_size cpupool_id emulation_flags misc_flags",
        {"emulation_flags": "arch.emulation_flags", "misc_flags": "arch.misc_flags"},
    ),
    "vx_domaininfo": (
        "xen_domctl_getdomaininfo",
        "domain flags tot_pages max_pages cpu_time nr_online_vcpus max_vcpu_id handle emulation_flags",
        {"emulation_flags": "arch_config.emulation_flags"},
    ),
    "vx_save_descriptor": ("hvm_save_descriptor", "typecode instance length", {}),
    "vx_hw_cpu": (
        "hvm_hw_cpu",
        "fpu_regs rax r8 rip rflags cr0 cr4 dr0 dr7 cs_sel ldtr_sel cs_limit idtr_limit gdtr_limit cs_base "
        "gdtr_base cs_arbytes ldtr_arbytes sysenter_cs shadow_gs msr_flags msr_efer tsc pending_event "
        "error_code flags",
        {},
    ),
    "vx_hw_mtrr": ("hvm_hw_mtrr", "def_type cap", {"def_type": "msr_mtrr_def_type", "cap": "msr_mtrr_cap"}),
}
CONSTANTS = {
    "VX_STATE_READY": "STATE_IOREQ_READY",
    "VX_STATE_INPROCESS": "STATE_IOREQ_INPROCESS",
    "VX_STATE_RESPONSE": "STATE_IORESP_READY",
    "VX_IOREQ_PIO": "IOREQ_TYPE_PIO",
    "VX_IOREQ_COPY": "IOREQ_TYPE_COPY",
    "VX_IOREQ_INVALIDATE": "IOREQ_TYPE_INVALIDATE",
    "VX_CDF_HVM": "XEN_DOMCTL_CDF_hvm",
    "VX_CDF_HAP": "XEN_DOMCTL_CDF_hap",
    "VX_X86_EMU_HVM": "(XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI)",
    "VX_DOMINF_DYING": "XEN_DOMINF_dying",
    "VX_DOMINF_HVM": "XEN_DOMINF_hvm_guest",
    "VX_DOMINF_SHUTDOWN": "XEN_DOMINF_shutdown",
    "VX_DOMINF_PAUSED": "XEN_DOMINF_paused",
    "VX_DOMINF_REASON_SHIFT": "XEN_DOMINF_shutdownshift",
    "VX_SHUTDOWN_POWEROFF": "SHUTDOWN_poweroff",
    "VX_SHUTDOWN_REBOOT": "SHUTDOWN_reboot",
    "VX_SHUTDOWN_SUSPEND": "SHUTDOWN_suspend",
    "VX_SHUTDOWN_CRASH": "SHUTDOWN_crash",
    "VX_SHUTDOWN_WATCHDOG": "SHUTDOWN_watchdog",
    "VX_SHUTDOWN_SOFT_RESET": "SHUTDOWN_soft_reset",
    "VX_PARAM_CALLBACK_IRQ": "HVM_PARAM_CALLBACK_IRQ",
    "VX_PARAM_STORE_PFN": "HVM_PARAM_STORE_PFN",
    "VX_PARAM_STORE_EVTCHN": "HVM_PARAM_STORE_EVTCHN",
    "VX_PARAM_TIMER_MODE": "HVM_PARAM_TIMER_MODE",
    "VX_PARAM_ACPI_S_STATE": "HVM_PARAM_ACPI_S_STATE",
    "VX_PARAM_TRIPLE_FAULT_REASON": "HVM_PARAM_TRIPLE_FAULT_REASON",
    "VX_TIMER_MODE_NO_DELAY": "HVMPTM_no_delay_for_missed_ticks",
    "VX_SAVE_HEADER": "HVM_SAVE_CODE(HEADER)",
    "VX_SAVE_CPU": "HVM_SAVE_CODE(CPU)",
    "VX_SAVE_MTRR": "HVM_SAVE_CODE(MTRR)",
    "VX_SAVE_END": "HVM_SAVE_CODE(END)",
    "VX_RESOURCE_IOREQ_SERVER": "XENMEM_resource_ioreq_server",
    "VX_RESOURCE_FRAME_IOREQ": "XENMEM_resource_ioreq_server_frame_ioreq(0)",
    "VX_BUFIOREQ_OFF": "HVM_IOREQSRV_BUFIOREQ_OFF",
    "VX_FPU_INITIALISED": "XEN_X86_FPU_INITIALISED",
    "VX_XENVER_VERSION": "XENVER_version",
}
HEADERS = ("xenctrl.h", "xen/hvm/ioreq.h", "xen/hvm/save.h", "xen/hvm/params.h", "xen/hvm/dm_op.h")


def program() -> str:
    lines = ["#include <stddef.h>", *(f"#include <{name}>" for name in HEADERS), '#include "abi.h"']
    for ours, (theirs, fields, other) in STRUCTURES.items():
        lines.append(f'_Static_assert(sizeof(struct {ours}) == sizeof(struct {theirs}), "size of {theirs}");')
        for field in fields.split():
            place = f"offsetof(struct {theirs}, {other.get(field, field)})"
            lines.append(f'_Static_assert(offsetof(struct {ours}, {field}) == {place}, "{theirs}.{field}");')
    lines += [f'_Static_assert({ours} == {theirs}, "{theirs}");' for ours, theirs in CONSTANTS.items()]
    return "\n".join([*lines, '_Static_assert(XEN_DOMCTL_INTERFACE_VERSION == 0x15, "Xen 4.17");', ""])


@pytest.mark.host("Xen's headers: libxen-dev, or a rig that was made")
def test_declarations_are_those_of_xens_headers(tmp_path: Path) -> None:
    include = next((folder for folder in INCLUDES if (folder / "xenctrl.h").is_file()), None)
    if include is None:
        pytest.skip("libxen-dev is not installed, and no rig was made")
    source = tmp_path / "abi.c"
    source.write_text(program())
    flags = ["-fsyntax-only", "-D__XEN_TOOLS__=1", f"-I{NATIVE}"]
    flags += [] if include == INCLUDES[0] else [f"-isystem{include}"]
    done = subprocess.run(["gcc", *flags, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
