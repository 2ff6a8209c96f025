/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * virtio-power: what the driver's parts are to each other.
 */
#ifndef _PARTS_H
#define _PARTS_H

#include <linux/completion.h>
#include <linux/kobject.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/workqueue.h>

#include "virtio_power.h"

struct platform_device;
struct power_device;

/* A slot, but for the one that virtio-power itself lies in. */
struct power_slot {
	struct power_device *power;
	struct work_struct work;
	u32 index;
	u32 line;
	u64 base;
	/* What the device said last; under power->lock. */
	u32 state;
	u32 generation;
	u32 sequence;
	/* Of the work alone. */
	u32 attached_generation;
	struct platform_device *made;
};

/* A CPU, by the machine's number. */
struct power_cpu {
	u64 hardware_id;
	bool present;
	/* A request of the host's; under power->lock. */
	u32 wanted;
	u32 sequence;
	/* Of the work alone: the state that the device was told last. */
	u32 told;
};

struct power_device {
	struct virtio_device *vdev;
	struct virtqueue *requests;
	struct virtqueue *events;
	struct workqueue_struct *wq;

	/* One request at a time, in buffers of the device's lifetime. */
	struct mutex request_lock;
	atomic_t request_busy;
	struct completion request_done;
	void *request;
	void *reply;
	bool broken;
	bool stopping;

	struct virtio_power_event *event_buffers;
	struct work_struct event_work;
	struct work_struct machine_work;
	struct work_struct cpu_work;
	spinlock_t lock;
	u32 action;
	u32 action_sequence;

	struct power_slot *slots;
	u32 n_slots;
	u32 own_slot;
	struct power_cpu *cpus;
	u32 n_cpus;

	struct kobject *machine;
	struct kset *slot_set;
	struct kset *cpu_set;
	struct kset *region_set;
};

#define POWER_REPLY_MAX 4096

/* core.c. All may sleep; 0 or a negative errno. */
int power_request(struct power_device *power, u16 type, const void *payload, size_t size,
		  void *reply, size_t reply_size);
int power_read_entry(struct power_device *power, u16 list, u32 index, void *entry, size_t size);
int power_list_length(struct power_device *power, u16 list);
int power_acknowledge(struct power_device *power, u32 sequence, u32 verdict, u32 reason);
void power_uevent(struct power_device *power, const char *what, const char *state, int index);
u32 power_reason(int error);
/* Neither sleeps nor waits for an interrupt: where the system goes down. */
void power_emergency(struct power_device *power, u32 code);
int power_crash(struct power_device *power, const char *text);

/* slots.c */
int power_slots_start(struct power_device *power);
void power_slots_stop(struct power_device *power);
void power_slot_event(struct power_device *power, u32 index, u32 state, u32 generation,
		      u32 sequence);

/* make_slot.c: for guests that were not told of all slots. */
struct platform_device *power_make_slot(struct power_device *power, const struct power_slot *slot);

/* cpus.c */
int power_cpus_start(struct power_device *power);
void power_cpus_stop(struct power_device *power);
void power_cpu_event(struct power_device *power, u32 index, u32 state, u32 sequence);

/* system.c: of the one device that there is. */
int power_system_start(struct power_device *power);
void power_system_stop(struct power_device *power);
void power_machine_event(struct power_device *power, u32 action, u32 sequence);

/* sysfs.c */
int power_sysfs_start(struct power_device *power);
void power_sysfs_stop(struct power_device *power);

#endif
