// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio-power: the end of the guest, in order or not.
 */
#include <linux/delay.h>
#include <linux/notifier.h>
#include <linux/panic_notifier.h>
#include <linux/reboot.h>

#include "parts.h"

/* How long the host may take to end the machine, before other means are tried. */
#define END_MS 5000

/* The handlers below know of no device: the one there is, or NULL. */
static struct power_device *system_of;
static struct sys_off_handler *power_off_handler, *restart_handler, *prepare_handler;

static void power_end(struct power_device *power, u32 code)
{
	int i;

	power_emergency(power, code);
	for (i = 0; i < END_MS; i++)
		mdelay(1);
}

static int power_do_power_off(struct sys_off_data *data)
{
	power_end(data->cb_data, VIRTIO_POWER_EMERGENCY_SHUTDOWN);
	return NOTIFY_DONE;
}

static int power_do_restart(struct sys_off_data *data)
{
	power_end(data->cb_data, VIRTIO_POWER_EMERGENCY_RESET);
	return NOTIFY_DONE;
}

static int power_panicked(struct notifier_block *block, unsigned long event, void *text)
{
	struct power_device *power = READ_ONCE(system_of);

	if (power && power_crash(power, text ? text : ""))
		power_emergency(power, VIRTIO_POWER_EMERGENCY_CRASH);
	return NOTIFY_DONE;
}

static struct notifier_block panic_block = { .notifier_call = power_panicked };

static void power_machine_work(struct work_struct *work)
{
	struct power_device *power = container_of(work, struct power_device, machine_work);
	u32 action, sequence, verdict = VIRTIO_POWER_VERDICT_ACCEPTED;
	u32 reason = VIRTIO_POWER_REASON_UNSPECIFIED;

	spin_lock_irq(&power->lock);
	action = power->action;
	sequence = power->action_sequence;
	power->action_sequence = 0;
	spin_unlock_irq(&power->lock);
	if (!sequence)
		return;

	switch (action) {
	case VIRTIO_POWER_ACTION_SHUTDOWN:
		power_uevent(power, "machine", "shutdown", -1);
		orderly_poweroff(true);
		break;
	case VIRTIO_POWER_ACTION_RESET:
		power_uevent(power, "machine", "reset", -1);
		orderly_reboot();
		break;
	case VIRTIO_POWER_ACTION_SUSPEND:
		/* A hint: whether and how is user space's to decide. */
		power_uevent(power, "machine", "suspend", -1);
		break;
	default:
		verdict = VIRTIO_POWER_VERDICT_REFUSED;
		reason = VIRTIO_POWER_REASON_UNSUPPORTED;
	}
	power_acknowledge(power, sequence, verdict, reason);
}

void power_machine_event(struct power_device *power, u32 action, u32 sequence)
{
	spin_lock_irq(&power->lock);
	power->action = action;
	power->action_sequence = sequence;
	spin_unlock_irq(&power->lock);
	queue_work(power->wq, &power->machine_work);
}

static struct sys_off_handler *power_handler(struct power_device *power, enum sys_off_mode mode,
					     int priority, int (*run)(struct sys_off_data *))
{
	struct sys_off_handler *handler = register_sys_off_handler(mode, priority, run, power);

	if (!IS_ERR(handler))
		return handler;
	dev_warn(&power->vdev->dev, "no handler of mode %d: %ld\n", mode, PTR_ERR(handler));
	return NULL;
}

int power_system_start(struct power_device *power)
{
	INIT_WORK(&power->machine_work, power_machine_work);
	if (system_of)
		return -EBUSY;
	WRITE_ONCE(system_of, power);
	atomic_notifier_chain_register(&panic_notifier_list, &panic_block);
	if (!virtio_has_feature(power->vdev, VIRTIO_POWER_F_EMERGENCY))
		return 0;
	/* Before the firmware's means, which remain where the host does not act. */
	power_off_handler = power_handler(power, SYS_OFF_MODE_POWER_OFF, SYS_OFF_PRIO_FIRMWARE + 1,
					  power_do_power_off);
	restart_handler = power_handler(power, SYS_OFF_MODE_RESTART, SYS_OFF_PRIO_FIRMWARE + 1,
					power_do_restart);
#if defined(CONFIG_X86) && defined(VIRTIO_POWER_HAVE_RESTART_PREPARE)
	/* x86 runs no restart handlers. This is the last that it does run. */
	prepare_handler = power_handler(power, SYS_OFF_MODE_RESTART_PREPARE,
					SYS_OFF_PRIO_PLATFORM - 1, power_do_restart);
#endif
	return 0;
}

void power_system_stop(struct power_device *power)
{
	if (system_of != power)
		return;
	unregister_sys_off_handler(power_off_handler);
	unregister_sys_off_handler(restart_handler);
	unregister_sys_off_handler(prepare_handler);
	power_off_handler = restart_handler = prepare_handler = NULL;
	atomic_notifier_chain_unregister(&panic_notifier_list, &panic_block);
	WRITE_ONCE(system_of, NULL);
	cancel_work_sync(&power->machine_work);
}
