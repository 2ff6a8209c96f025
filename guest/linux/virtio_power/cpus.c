// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio-power: CPUs, by request of the host, and told to the host.
 */
#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/of.h>
#include <linux/slab.h>
#include <linux/smp.h>

#include "parts.h"

/* CPU hot-plug callbacks know of no device: the one there is, or NULL. */
static struct power_device *cpus_of;
static enum cpuhp_state state_up, state_down;

#ifdef CONFIG_X86
static u64 power_hardware_id(int cpu)
{
	return cpu_physical_id(cpu);
}
#else
static u64 power_hardware_id(int cpu)
{
	struct device_node *node = of_get_cpu_node(cpu, NULL);
	const __be32 *reg;
	u64 id = U64_MAX;
	int length;

	reg = node ? of_get_property(node, "reg", &length) : NULL;
	if (reg)
		id = of_read_number(reg, length / sizeof(*reg));
	of_node_put(node);
	return id;
}
#endif

/* Linux's number of a machine's CPU, or -ENODEV. */
static int power_linux_cpu(const struct power_cpu *cpu)
{
	int i;

	for_each_possible_cpu(i)
		if (power_hardware_id(i) == cpu->hardware_id)
			return i;
	return -ENODEV;
}

static int power_set_cpu(const struct power_cpu *cpu, u32 wanted)
{
	int number = power_linux_cpu(cpu);

	if (number < 0 || !get_cpu_device(number))
		return -ENODEV;
	if (wanted == VIRTIO_POWER_CPU_ONLINE)
		return cpu_online(number) ? 0 : add_cpu(number);
	if (wanted == VIRTIO_POWER_CPU_OFFLINE)
		return cpu_online(number) ? remove_cpu(number) : 0;
	return -EOPNOTSUPP;
}

static void power_cpu_answer(struct power_device *power, u32 index)
{
	struct power_cpu *cpu = &power->cpus[index];
	u32 wanted, sequence;
	int error;

	spin_lock_irq(&power->lock);
	wanted = cpu->wanted;
	sequence = cpu->sequence;
	cpu->sequence = 0;
	spin_unlock_irq(&power->lock);
	if (!sequence)
		return;
	error = power_set_cpu(cpu, wanted);
	/* Its threads count as siblings, and such: tools ask again. */
	power_uevent(power, "cpu", error ? "refused" : "done", index);
	power_acknowledge(power, sequence,
			  error ? VIRTIO_POWER_VERDICT_REFUSED : VIRTIO_POWER_VERDICT_DONE,
			  error ? power_reason(error) : VIRTIO_POWER_REASON_UNSPECIFIED);
}

static void power_cpu_tell(struct power_device *power, u32 index)
{
	struct power_cpu *cpu = &power->cpus[index];
	struct virtio_power_cpu_state report;
	int number = power_linux_cpu(cpu);
	u32 state = number >= 0 && cpu_online(number) ? VIRTIO_POWER_CPU_ONLINE
						      : VIRTIO_POWER_CPU_OFFLINE;

	if (!cpu->present || state == cpu->told)
		return;
	report.cpu = cpu_to_le32(index);
	report.state = cpu_to_le32(state);
	if (!power_request(power, VIRTIO_POWER_REQ_CPU_STATE, &report, sizeof(report), NULL, 0))
		cpu->told = state;
}

static void power_cpu_work(struct work_struct *work)
{
	struct power_device *power = container_of(work, struct power_device, cpu_work);
	u32 i;

	for (i = 0; i < power->n_cpus; i++)
		power_cpu_answer(power, i);
	for (i = 0; i < power->n_cpus; i++)
		power_cpu_tell(power, i);
}

static int power_cpu_changed(unsigned int cpu)
{
	struct power_device *power = READ_ONCE(cpus_of);

	if (power)
		queue_work(power->wq, &power->cpu_work);
	return 0;
}

void power_cpu_event(struct power_device *power, u32 index, u32 state, u32 sequence)
{
	struct power_cpu *cpu;

	if (index >= power->n_cpus)
		return;
	cpu = &power->cpus[index];
	spin_lock_irq(&power->lock);
	cpu->wanted = state;
	cpu->sequence = sequence;
	spin_unlock_irq(&power->lock);
	queue_work(power->wq, &power->cpu_work);
}

static int power_cpu_init(struct power_device *power, u32 index)
{
	struct power_cpu *cpu = &power->cpus[index];
	struct virtio_power_cpu entry;
	int error = power_read_entry(power, VIRTIO_POWER_REQ_CPUS, index, &entry, sizeof(entry));

	if (error)
		return error;
	cpu->hardware_id = le64_to_cpu(entry.hardware_id);
	cpu->told = le32_to_cpu(entry.state);
	cpu->present = cpu->told != VIRTIO_POWER_CPU_ABSENT;
	return 0;
}

static int power_cpus_watch(struct power_device *power)
{
	int state;

	WRITE_ONCE(cpus_of, power);
	/* Up: when it runs. Down: when it no longer does. */
	state = cpuhp_setup_state_nocalls(CPUHP_AP_ONLINE_DYN, "virtio_power:up", power_cpu_changed,
					  NULL);
	if (state < 0)
		goto forget;
	state_up = state;
	state = cpuhp_setup_state_nocalls(CPUHP_BP_PREPARE_DYN, "virtio_power:down", NULL,
					  power_cpu_changed);
	if (state < 0)
		goto remove_up;
	state_down = state;
	queue_work(power->wq, &power->cpu_work);
	return 0;

remove_up:
	cpuhp_remove_state_nocalls(state_up);
forget:
	WRITE_ONCE(cpus_of, NULL);
	return state;
}

int power_cpus_start(struct power_device *power)
{
	int count, error, i;

	INIT_WORK(&power->cpu_work, power_cpu_work);
	if (!virtio_has_feature(power->vdev, VIRTIO_POWER_F_CPUS))
		return 0;
	if (cpus_of)
		return -EBUSY;
	count = power_list_length(power, VIRTIO_POWER_REQ_CPUS);
	if (count < 0)
		return count;
	power->cpus = kcalloc(count, sizeof(*power->cpus), GFP_KERNEL);
	if (!power->cpus)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		error = power_cpu_init(power, i);
		if (error)
			goto free;
	}
	power->n_cpus = count;
	error = power_cpus_watch(power);
	if (!error)
		return 0;
free:
	kfree(power->cpus);
	power->n_cpus = 0;
	return error;
}

void power_cpus_stop(struct power_device *power)
{
	if (!power->n_cpus)
		return;
	cpuhp_remove_state_nocalls(state_down);
	cpuhp_remove_state_nocalls(state_up);
	WRITE_ONCE(cpus_of, NULL);
	cancel_work_sync(&power->cpu_work);
	power->n_cpus = 0;
	kfree(power->cpus);
}
