/* SPDX-License-Identifier: MIT */
/*
 * virtio-power: what goes between the device and its driver.
 * Printed by vdesktop_core.devices.power.documents; not edited by hand.
 */
/* clang-format off */
#ifndef _VIRTIO_POWER_H
#define _VIRTIO_POWER_H

#include <linux/types.h>

#define VIRTIO_ID_POWER 0xffff
#define VIRTIO_POWER_REVISION 1
#define VIRTIO_POWER_VQ_REQUEST 0
#define VIRTIO_POWER_VQ_EVENT 1
#define VIRTIO_POWER_REQUEST_MAX 4096

#define VIRTIO_POWER_F_SLOTS 0x0
#define VIRTIO_POWER_F_CPUS 0x1
#define VIRTIO_POWER_F_SUSPEND 0x2
#define VIRTIO_POWER_F_EMERGENCY 0x3

#define VIRTIO_POWER_EMERGENCY_SHUTDOWN 0x1
#define VIRTIO_POWER_EMERGENCY_RESET 0x2
#define VIRTIO_POWER_EMERGENCY_CRASH 0x3

#define VIRTIO_POWER_REQ_MACHINE 0x1
#define VIRTIO_POWER_REQ_REGIONS 0x2
#define VIRTIO_POWER_REQ_CPUS 0x3
#define VIRTIO_POWER_REQ_SLOTS 0x4
#define VIRTIO_POWER_REQ_SHUTDOWN 0x10
#define VIRTIO_POWER_REQ_RESET 0x11
#define VIRTIO_POWER_REQ_CRASH 0x12
#define VIRTIO_POWER_REQ_ACKNOWLEDGE 0x20
#define VIRTIO_POWER_REQ_RESET_SLOT 0x30
#define VIRTIO_POWER_REQ_CPU_STATE 0x40

#define VIRTIO_POWER_S_OK 0x0
#define VIRTIO_POWER_S_UNSUPPORTED 0x1
#define VIRTIO_POWER_S_INVALID 0x2
#define VIRTIO_POWER_S_ABSENT 0x3
#define VIRTIO_POWER_S_NO_SPACE 0x4
#define VIRTIO_POWER_S_FAILED 0x5

#define VIRTIO_POWER_EVENT_MACHINE 0x1
#define VIRTIO_POWER_EVENT_SLOT 0x2
#define VIRTIO_POWER_EVENT_CPU 0x3

#define VIRTIO_POWER_ACTION_SHUTDOWN 0x1
#define VIRTIO_POWER_ACTION_RESET 0x2
#define VIRTIO_POWER_ACTION_SUSPEND 0x3

#define VIRTIO_POWER_SLOT_EMPTY 0x0
#define VIRTIO_POWER_SLOT_FILLED 0x1
#define VIRTIO_POWER_SLOT_EJECTING 0x2
#define VIRTIO_POWER_SLOT_LOST 0x3

#define VIRTIO_POWER_CPU_ABSENT 0x0
#define VIRTIO_POWER_CPU_OFFLINE 0x1
#define VIRTIO_POWER_CPU_ONLINE 0x2

#define VIRTIO_POWER_VERDICT_ACCEPTED 0x1
#define VIRTIO_POWER_VERDICT_DONE 0x2
#define VIRTIO_POWER_VERDICT_REFUSED 0x3

#define VIRTIO_POWER_REASON_UNSPECIFIED 0x0
#define VIRTIO_POWER_REASON_BUSY 0x1
#define VIRTIO_POWER_REASON_UNSUPPORTED 0x2
#define VIRTIO_POWER_REASON_FAILED 0x3
#define VIRTIO_POWER_REASON_ABSENT 0x4

#define VIRTIO_POWER_REGION_RAM 0x1
#define VIRTIO_POWER_REGION_INTERRUPT_CONTROLLER 0x2
#define VIRTIO_POWER_REGION_SLOTS 0x3
#define VIRTIO_POWER_REGION_APERTURE 0x4

#define VIRTIO_POWER_MACHINE_X86_64 0x3e
#define VIRTIO_POWER_MACHINE_AARCH64 0xb7
#define VIRTIO_POWER_MACHINE_RISCV64 0xf3

#define VIRTIO_POWER_INTC_IOAPIC 0x1
#define VIRTIO_POWER_INTC_GICV2 0x2
#define VIRTIO_POWER_INTC_GICV3 0x3
#define VIRTIO_POWER_INTC_PLIC 0x4

#define VIRTIO_POWER_TIMER_APIC 0x1
#define VIRTIO_POWER_TIMER_GENERIC 0x2
#define VIRTIO_POWER_TIMER_SBI 0x3

struct virtio_power_config {
	__le16 revision;
	__le16 n_slots;
	__le32 n_cpus;
	__le32 generation;
	__le32 emergency;
};

struct virtio_power_request {
	__le16 type;
	__le16 flags;
	__le32 size;
};

struct virtio_power_reply {
	__le16 status;
	__le16 flags;
	__le32 size;
	__le32 generation;
	__le32 reserved;
};

struct virtio_power_machine {
	__le32 arch;
	__le32 interrupt_controller;
	__le32 timer;
	__le32 n_regions;
	__le64 timer_hz;
	__u8 name[64];
};

struct virtio_power_range {
	__le32 first;
	__le32 count;
};

struct virtio_power_list {
	__le32 total;
	__le32 first;
	__le32 count;
	__le32 entry_size;
};

struct virtio_power_region {
	__le32 kind;
	__le32 reserved;
	__le64 base;
	__le64 size;
	__u8 name[16];
};

struct virtio_power_cpu {
	__le32 index;
	__le32 state;
	__le64 hardware_id;
};

struct virtio_power_slot {
	__le32 index;
	__le32 device_id;
	__le32 state;
	__le32 generation;
	__le64 base;
	__le32 line;
	__le16 version;
	__le16 reserved;
	__u8 name[32];
};

struct virtio_power_crash {
	__le32 text_size;
	__le32 reserved;
};

struct virtio_power_acknowledge {
	__le32 sequence;
	__le32 verdict;
	__le32 reason;
	__le32 reserved;
};

struct virtio_power_reset_slot {
	__le32 slot;
	__le32 generation;
};

struct virtio_power_cpu_state {
	__le32 cpu;
	__le32 state;
};

struct virtio_power_event {
	__le16 kind;
	__le16 flags;
	__le32 size;
	__le32 sequence;
	__le32 index;
	__le32 state;
	__le32 generation;
	__le32 timeout_ms;
	__le32 reserved;
};

#endif
