// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio-power: a platform device for a slot that the guest's firmware tables do
 * not name. Its interrupt is one of the controller that virtio-power's own is of.
 */
#include <linux/acpi.h>
#include <linux/dma-mapping.h>
#include <linux/irq.h>
#include <linux/irqdomain.h>
#include <linux/of_irq.h>
#include <linux/platform_device.h>
#include <linux/sizes.h>

#include "parts.h"

#define SLOT_SIZE SZ_4K

#if IS_ENABLED(CONFIG_OF)
/* As virtio-power's own interrupt, with the other line's number in place of its. */
static int power_map_of(struct device_node *node, u32 own_line, u32 line)
{
	struct of_phandle_args args;
	int error = of_irq_parse_one(node, 0, &args);
	int i;

	if (error)
		return error;
	/* The number is the only cell, or the one after the kind (GIC: 0, an SPI). */
	i = args.args_count > 1 ? 1 : 0;
	if (args.args[i] != own_line) {
		of_node_put(args.np);
		return -EINVAL;
	}
	args.args[i] = line;
	error = irq_create_of_mapping(&args);
	of_node_put(args.np);
	return error ? error : -EINVAL;
}
#else
static int power_map_of(struct device_node *node, u32 own_line, u32 line)
{
	return -ENODEV;
}
#endif

#if IS_ENABLED(CONFIG_ACPI)
static int power_map_acpi(struct device *dev, u32 line, u32 trigger)
{
	bool level = trigger & IRQ_TYPE_LEVEL_MASK;

	return acpi_register_gsi(dev, line, level ? ACPI_LEVEL_SENSITIVE : ACPI_EDGE_SENSITIVE,
				 ACPI_ACTIVE_HIGH);
}
#else
static int power_map_acpi(struct device *dev, u32 line, u32 trigger)
{
	return -ENODEV;
}
#endif

static int power_map_line(struct power_device *power, u32 line)
{
	struct device *own = power->vdev->dev.parent;
	int irq = platform_get_irq(to_platform_device(own), 0);

	if (own->of_node)
		return power_map_of(own->of_node, power->slots[power->own_slot].line, line);
	return irq < 0 ? irq : power_map_acpi(own, line, irq_get_trigger_type(irq));
}

struct platform_device *power_make_slot(struct power_device *power, const struct power_slot *slot)
{
	int irq = power->own_slot < power->n_slots ? power_map_line(power, slot->line) : -ENODEV;
	const struct resource resources[] = {
		DEFINE_RES_MEM(slot->base, SLOT_SIZE),
		DEFINE_RES_IRQ(irq),
	};
	const struct platform_device_info info = {
		.name = "virtio-mmio",
		.id = PLATFORM_DEVID_AUTO,
		.res = resources,
		.num_res = ARRAY_SIZE(resources),
		.dma_mask = DMA_BIT_MASK(64),
	};

	return irq < 0 ? ERR_PTR(irq) : platform_device_register_full(&info);
}
