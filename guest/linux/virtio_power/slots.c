// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio-power: devices that come and go.
 *
 * A slot's event says what is true now. Its work compares that with what the
 * slot's platform device is bound to, and acts on the difference; so events that
 * were merged on the way, or come while the work runs, are all the same to it.
 */
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/suspend.h>
#include <linux/virtio_ids.h>

#include "parts.h"

static int power_match_base(struct device *dev, const void *base)
{
	struct platform_device *pdev = to_platform_device(dev);
	struct resource *mem = platform_get_resource(pdev, IORESOURCE_MEM, 0);

	return mem && mem->start == *(const u64 *)base;
}

/* The device that the firmware, or this driver, made of a slot. The caller puts it. */
static struct platform_device *power_find_slot(u64 base)
{
	struct device *dev = bus_find_device(&platform_bus_type, NULL, &base, power_match_base);

	return dev ? to_platform_device(dev) : NULL;
}

static int power_break(struct device *dev, void *unused)
{
	if (is_virtio_device(dev))
		virtio_break_device(dev_to_virtio(dev));
	return 0;
}

/*
 * What was behind the device is gone. Where the device itself still answers, every request ends by
 * itself. Else its driver must not wait for it.
 */
static void power_slot_lost(struct power_slot *slot, struct platform_device *pdev, bool answers)
{
	if (!answers)
		device_for_each_child(&pdev->dev, NULL, power_break);
	device_release_driver(&pdev->dev);
	power_uevent(slot->power, "slot", "lost", slot->index);
}

static void power_slot_attach(struct power_slot *slot, struct platform_device *pdev)
{
	struct device *dev = &slot->power->vdev->dev;
	int bound;

	if (pdev) {
		bound = device_attach(&pdev->dev);
		if (bound != 1)
			dev_warn(dev, "slot %u has no driver: %d\n", slot->index, bound);
	} else {
		pdev = power_make_slot(slot->power, slot);
		if (IS_ERR(pdev)) {
			dev_warn(dev, "slot %u is unusable: %ld\n", slot->index, PTR_ERR(pdev));
			return;
		}
		slot->made = pdev;
	}
	power_uevent(slot->power, "slot", "filled", slot->index);
}

static bool power_slot_is_disk(struct power_slot *slot)
{
	struct virtio_power_slot entry;

	return !power_read_entry(slot->power, VIRTIO_POWER_REQ_SLOTS, slot->index, &entry,
				 sizeof(entry)) &&
	       le32_to_cpu(entry.device_id) == VIRTIO_ID_BLOCK;
}

static void power_slot_eject(struct power_slot *slot, struct platform_device *pdev, u32 sequence)
{
	int error;

	/* What was written to a file system is on its disk before that disk goes. */
	if (power_slot_is_disk(slot))
		ksys_sync_helper();
	if (pdev)
		device_release_driver(&pdev->dev);
	power_uevent(slot->power, "slot", "ejected", slot->index);
	error = power_acknowledge(slot->power, sequence, VIRTIO_POWER_VERDICT_DONE,
				  VIRTIO_POWER_REASON_UNSPECIFIED);
	/* -ENOENT: the host waits no longer, and says with another event what is to be. */
	if (error && error != -ENOENT)
		dev_warn(&slot->power->vdev->dev, "slot %u: no consent: %d\n", slot->index, error);
}

static void power_slot_work(struct work_struct *work)
{
	struct power_slot *slot = container_of(work, struct power_slot, work);
	struct power_device *power = slot->power;
	u32 state, generation, sequence;
	struct platform_device *pdev;

	spin_lock_irq(&power->lock);
	state = slot->state;
	generation = slot->generation;
	sequence = slot->sequence;
	slot->sequence = 0;
	spin_unlock_irq(&power->lock);

	pdev = power_find_slot(slot->base);
	if (pdev && generation != slot->attached_generation && pdev->dev.driver)
		power_slot_lost(slot, pdev, false);
	slot->attached_generation = generation;
	if (state == VIRTIO_POWER_SLOT_FILLED)
		power_slot_attach(slot, pdev);
	else if (state == VIRTIO_POWER_SLOT_EJECTING && sequence)
		power_slot_eject(slot, pdev, sequence);
	else if (state == VIRTIO_POWER_SLOT_LOST && pdev && pdev->dev.driver)
		power_slot_lost(slot, pdev, true);
	if (pdev)
		put_device(&pdev->dev);
}

void power_slot_event(struct power_device *power, u32 index, u32 state, u32 generation,
		      u32 sequence)
{
	struct power_slot *slot;

	if (index >= power->n_slots || index == power->own_slot)
		return;
	slot = &power->slots[index];
	spin_lock_irq(&power->lock);
	slot->state = state;
	slot->generation = generation;
	slot->sequence = sequence;
	spin_unlock_irq(&power->lock);
	queue_work(power->wq, &slot->work);
}

static int power_slot_init(struct power_device *power, u32 index, u64 own_base)
{
	struct power_slot *slot = &power->slots[index];
	struct virtio_power_slot entry;
	int error = power_read_entry(power, VIRTIO_POWER_REQ_SLOTS, index, &entry, sizeof(entry));

	if (error)
		return error;
	slot->power = power;
	slot->index = index;
	slot->base = le64_to_cpu(entry.base);
	slot->line = le32_to_cpu(entry.line);
	slot->state = le32_to_cpu(entry.state);
	slot->generation = le32_to_cpu(entry.generation);
	slot->attached_generation = slot->generation;
	INIT_WORK(&slot->work, power_slot_work);
	if (slot->base == own_base)
		power->own_slot = index;
	return 0;
}

int power_slots_start(struct power_device *power)
{
	struct platform_device *own = to_platform_device(power->vdev->dev.parent);
	struct resource *mem = platform_get_resource(own, IORESOURCE_MEM, 0);
	int count, error, i;

	power->own_slot = U32_MAX;
	if (!virtio_has_feature(power->vdev, VIRTIO_POWER_F_SLOTS) || !mem)
		return 0;
	count = power_list_length(power, VIRTIO_POWER_REQ_SLOTS);
	if (count < 0)
		return count;
	power->slots = kcalloc(count, sizeof(*power->slots), GFP_KERNEL);
	if (!power->slots)
		return -ENOMEM;
	for (i = 0; i < count; i++) {
		error = power_slot_init(power, i, mem->start);
		if (error) {
			kfree(power->slots);
			return error;
		}
	}
	power->n_slots = count;
	/* One may have been filled after its driver looked, and before this one did. */
	for (i = 0; i < count; i++)
		if (i != power->own_slot && (power->slots[i].state == VIRTIO_POWER_SLOT_FILLED ||
					     power->slots[i].state == VIRTIO_POWER_SLOT_LOST))
			queue_work(power->wq, &power->slots[i].work);
	return 0;
}

void power_slots_stop(struct power_device *power)
{
	u32 i;

	for (i = 0; i < power->n_slots; i++)
		cancel_work_sync(&power->slots[i].work);
	for (i = 0; i < power->n_slots; i++)
		platform_device_unregister(power->slots[i].made);
	power->n_slots = 0;
	kfree(power->slots);
}
