// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio-power: the machine in sysfs, below the device:
 *
 *   machine/{name,arch,interrupt_controller,timer,timer_hz}
 *   regions/N/{kind,name,base,size}
 *   cpus/N/{state,hardware_id}
 *   slots/N/{device_id,state,name,version,base,line,generation}
 *
 * Every reading asks the device, so what is read is true.
 */
#include <linux/slab.h>
#include <linux/sysfs.h>

#include "parts.h"

/* A folder of the lists. */
struct power_entry {
	struct kobject kobj;
	struct power_device *power;
	u32 index;
};

struct power_attribute {
	struct attribute attr;
	ssize_t (*show)(const void *entry, char *out);
};

/* One kind of folder: what is asked for, and how long it is. */
struct power_list_type {
	struct kobj_type ktype;
	u16 request;
	size_t size;
};

#define ENTRY_MAX 128

static const char *power_word(const char *const *words, size_t count, u32 value)
{
	return value < count && words[value] ? words[value] : "unknown";
}

#define WORD(words, value) power_word(words, ARRAY_SIZE(words), value)

#define SHOW(list, field, format, ...)                                     \
	static ssize_t list##_##field##_show(const void *entry, char *out) \
	{                                                                  \
		const struct virtio_power_##list *of = entry;              \
		return sysfs_emit(out, format "\n", __VA_ARGS__);          \
	}                                                                  \
	static struct power_attribute list##_##field = {                   \
		.attr = { .name = #field, .mode = 0444 },                  \
		.show = list##_##field##_show,                             \
	}

static const char *const slot_states[] = {
	[VIRTIO_POWER_SLOT_EMPTY] = "empty",
	[VIRTIO_POWER_SLOT_FILLED] = "filled",
	[VIRTIO_POWER_SLOT_EJECTING] = "ejecting",
	[VIRTIO_POWER_SLOT_LOST] = "lost",
};
static const char *const cpu_states[] = {
	[VIRTIO_POWER_CPU_ABSENT] = "absent",
	[VIRTIO_POWER_CPU_OFFLINE] = "offline",
	[VIRTIO_POWER_CPU_ONLINE] = "online",
};
static const char *const region_kinds[] = {
	[VIRTIO_POWER_REGION_RAM] = "ram",
	[VIRTIO_POWER_REGION_INTERRUPT_CONTROLLER] = "interrupt_controller",
	[VIRTIO_POWER_REGION_SLOTS] = "slots",
	[VIRTIO_POWER_REGION_APERTURE] = "aperture",
};
static const char *const machines[] = {
	[VIRTIO_POWER_MACHINE_X86_64] = "x86_64",
	[VIRTIO_POWER_MACHINE_AARCH64] = "aarch64",
	[VIRTIO_POWER_MACHINE_RISCV64] = "riscv64",
};
static const char *const controllers[] = {
	[VIRTIO_POWER_INTC_IOAPIC] = "ioapic",
	[VIRTIO_POWER_INTC_GICV2] = "gicv2",
	[VIRTIO_POWER_INTC_GICV3] = "gicv3",
	[VIRTIO_POWER_INTC_PLIC] = "plic",
};
static const char *const timers[] = {
	[VIRTIO_POWER_TIMER_APIC] = "apic",
	[VIRTIO_POWER_TIMER_GENERIC] = "generic",
	[VIRTIO_POWER_TIMER_SBI] = "sbi",
};

SHOW(machine, name, "%.*s", (int)strnlen(of->name, sizeof(of->name)), of->name);
SHOW(machine, arch, "%s", WORD(machines, le32_to_cpu(of->arch)));
SHOW(machine, interrupt_controller, "%s", WORD(controllers, le32_to_cpu(of->interrupt_controller)));
SHOW(machine, timer, "%s", WORD(timers, le32_to_cpu(of->timer)));
SHOW(machine, timer_hz, "%llu", le64_to_cpu(of->timer_hz));
SHOW(region, kind, "%s", WORD(region_kinds, le32_to_cpu(of->kind)));
SHOW(region, name, "%.*s", (int)strnlen(of->name, sizeof(of->name)), of->name);
SHOW(region, base, "%#llx", le64_to_cpu(of->base));
SHOW(region, size, "%#llx", le64_to_cpu(of->size));
SHOW(cpu, state, "%s", WORD(cpu_states, le32_to_cpu(of->state)));
SHOW(cpu, hardware_id, "%#llx", le64_to_cpu(of->hardware_id));
SHOW(slot, device_id, "%u", le32_to_cpu(of->device_id));
SHOW(slot, state, "%s", WORD(slot_states, le32_to_cpu(of->state)));
SHOW(slot, name, "%.*s", (int)strnlen(of->name, sizeof(of->name)), of->name);
SHOW(slot, version, "%u", le16_to_cpu(of->version));
SHOW(slot, base, "%#llx", le64_to_cpu(of->base));
SHOW(slot, line, "%u", le32_to_cpu(of->line));
SHOW(slot, generation, "%u", le32_to_cpu(of->generation));

static struct attribute *machine_attrs[] = {
	&machine_name.attr,  &machine_arch.attr,     &machine_interrupt_controller.attr,
	&machine_timer.attr, &machine_timer_hz.attr, NULL,
};
ATTRIBUTE_GROUPS(machine);
static struct attribute *region_attrs[] = {
	&region_kind.attr, &region_name.attr, &region_base.attr, &region_size.attr, NULL,
};
ATTRIBUTE_GROUPS(region);
static struct attribute *cpu_attrs[] = { &cpu_state.attr, &cpu_hardware_id.attr, NULL };
ATTRIBUTE_GROUPS(cpu);
static struct attribute *slot_attrs[] = {
	&slot_device_id.attr, &slot_state.attr, &slot_name.attr,       &slot_version.attr,
	&slot_base.attr,      &slot_line.attr,	&slot_generation.attr, NULL,
};
ATTRIBUTE_GROUPS(slot);

static ssize_t power_entry_show(struct kobject *kobj, struct attribute *attr, char *out)
{
	struct power_entry *entry = container_of(kobj, struct power_entry, kobj);
	const struct power_list_type *type =
		container_of(kobj->ktype, struct power_list_type, ktype);
	u64 data[ENTRY_MAX / sizeof(u64)];
	int error;

	if (type->request == VIRTIO_POWER_REQ_MACHINE)
		error = power_request(entry->power, type->request, NULL, 0, data, type->size);
	else
		error = power_read_entry(entry->power, type->request, entry->index, data,
					 type->size);
	if (error)
		return error;
	return container_of(attr, struct power_attribute, attr)->show(data, out);
}

static const struct sysfs_ops power_entry_ops = { .show = power_entry_show };

static void power_entry_release(struct kobject *kobj)
{
	kfree(container_of(kobj, struct power_entry, kobj));
}

#define LIST_TYPE(list, code)                                                                        \
	{                                                                                            \
		.ktype = {                                                                         \
			.release = power_entry_release,                                            \
			.sysfs_ops = &power_entry_ops,                                             \
			.default_groups = list##_groups,                                           \
		},                                                                                 \
		.request = VIRTIO_POWER_REQ_##code,                                                \
		.size = sizeof(struct virtio_power_##list), \
	}

static const struct power_list_type machine_type = LIST_TYPE(machine, MACHINE);
static const struct power_list_type region_type = LIST_TYPE(region, REGIONS);
static const struct power_list_type cpu_type = LIST_TYPE(cpu, CPUS);
static const struct power_list_type slot_type = LIST_TYPE(slot, SLOTS);

static_assert(sizeof(struct virtio_power_machine) <= ENTRY_MAX);
static_assert(sizeof(struct virtio_power_region) <= ENTRY_MAX);
static_assert(sizeof(struct virtio_power_cpu) <= ENTRY_MAX);
static_assert(sizeof(struct virtio_power_slot) <= ENTRY_MAX);

/* A folder in a set, or below the device itself. */
static struct kobject *power_add(struct power_device *power, const struct power_list_type *type,
				 struct kset *set, const char *name, u32 index)
{
	struct power_entry *entry = kzalloc(sizeof(*entry), GFP_KERNEL);
	int error;

	if (!entry)
		return NULL;
	entry->power = power;
	entry->index = index;
	entry->kobj.kset = set;
	error = kobject_init_and_add(&entry->kobj, (struct kobj_type *)&type->ktype,
				     set ? NULL : &power->vdev->dev.kobj, "%s", name);
	if (!error)
		return &entry->kobj;
	kobject_put(&entry->kobj);
	return NULL;
}

static void power_drop(struct kobject *kobj)
{
	/* Returns when nobody is reading any more. */
	kobject_del(kobj);
	kobject_put(kobj);
}

static void power_drop_list(struct kset *set)
{
	struct kobject *kobj, *next;

	if (!set)
		return;
	list_for_each_entry_safe(kobj, next, &set->list, entry) power_drop(kobj);
	kset_unregister(set);
}

static struct kset *power_add_list(struct power_device *power, const char *name,
				   const struct power_list_type *type)
{
	int count = power_list_length(power, type->request), i;
	struct kset *set;
	char number[12];

	if (count < 0)
		return NULL;
	set = kset_create_and_add(name, NULL, &power->vdev->dev.kobj);
	if (!set)
		return NULL;
	for (i = 0; i < count; i++) {
		snprintf(number, sizeof(number), "%d", i);
		if (!power_add(power, type, set, number, i)) {
			power_drop_list(set);
			return NULL;
		}
	}
	return set;
}

void power_sysfs_stop(struct power_device *power)
{
	power_drop_list(power->slot_set);
	power_drop_list(power->cpu_set);
	power_drop_list(power->region_set);
	if (power->machine)
		power_drop(power->machine);
}

int power_sysfs_start(struct power_device *power)
{
	power->machine = power_add(power, &machine_type, NULL, "machine", 0);
	power->region_set = power_add_list(power, "regions", &region_type);
	power->cpu_set = power_add_list(power, "cpus", &cpu_type);
	power->slot_set = power_add_list(power, "slots", &slot_type);
	if (power->machine && power->region_set && power->cpu_set && power->slot_set)
		return 0;
	power_sysfs_stop(power);
	return -ENOMEM;
}
