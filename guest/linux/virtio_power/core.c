// SPDX-License-Identifier: GPL-2.0-only
/*
 * virtio-power: the virtio device, its two queues, and who hears of what.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/slab.h>

#include "parts.h"

#define EVENT_BUFFERS	32
#define REQUEST_TIMEOUT (30 * HZ)
#define CRASH_POLLS	1000
#define CRASH_POLL_US	1000
#define CRASH_TEXT_MAX	512

static int power_status_errno(u16 status)
{
	switch (status) {
	case VIRTIO_POWER_S_OK:
		return 0;
	case VIRTIO_POWER_S_UNSUPPORTED:
		return -EOPNOTSUPP;
	case VIRTIO_POWER_S_INVALID:
		return -EINVAL;
	case VIRTIO_POWER_S_ABSENT:
		return -ENOENT;
	case VIRTIO_POWER_S_NO_SPACE:
		return -ENOSPC;
	default:
		return -EIO;
	}
}

/* Puts a request into the buffers and the queue. The caller has set request_busy. */
static int power_send(struct power_device *power, u16 type, const void *payload, size_t size,
		      gfp_t gfp)
{
	struct virtio_power_request *header = power->request;
	struct scatterlist out, in, *sgs[] = { &out, &in };
	int error;

	if (size > VIRTIO_POWER_REQUEST_MAX - sizeof(*header))
		return -EMSGSIZE;
	header->type = cpu_to_le16(type);
	header->flags = 0;
	header->size = cpu_to_le32(sizeof(*header) + size);
	if (size)
		memcpy(header + 1, payload, size);
	sg_init_one(&out, power->request, sizeof(*header) + size);
	sg_init_one(&in, power->reply, POWER_REPLY_MAX);
	error = virtqueue_add_sgs(power->requests, sgs, 1, 1, power, gfp);
	if (error)
		return error;
	return virtqueue_kick(power->requests) ? 0 : -EIO;
}

/* What the device wrote is checked here: its sizes are not believed. */
static int power_take_reply(struct power_device *power, u32 used, void *reply, size_t reply_size)
{
	const struct virtio_power_reply *header = power->reply;
	u32 size;
	int error;

	if (used < sizeof(*header) || used > POWER_REPLY_MAX)
		return -EPROTO;
	size = le32_to_cpu(header->size);
	if (size < sizeof(*header) || size > used)
		return -EPROTO;
	error = power_status_errno(le16_to_cpu(header->status));
	if (error)
		return error;
	if (size - sizeof(*header) < reply_size)
		return -EPROTO;
	memcpy(reply, header + 1, reply_size);
	return 0;
}

/* The reply's payload is at least reply_size long, or it is an error. */
int power_request(struct power_device *power, u16 type, const void *payload, size_t size,
		  void *reply, size_t reply_size)
{
	u32 used;
	int error;

	mutex_lock(&power->request_lock);
	if (power->broken || atomic_cmpxchg(&power->request_busy, 0, 1)) {
		error = -ENODEV;
		goto unlock;
	}
	reinit_completion(&power->request_done);
	error = power_send(power, type, payload, size, GFP_KERNEL);
	if (!error && !wait_for_completion_timeout(&power->request_done, REQUEST_TIMEOUT))
		error = -ETIMEDOUT;
	if (!error && !virtqueue_get_buf(power->requests, &used))
		error = -EIO;
	if (error) {
		/* The buffers may still be the device's. */
		power->broken = true;
		dev_err(&power->vdev->dev, "request %#x failed: %d; unusable from now on\n", type,
			error);
		goto unlock;
	}
	error = power_take_reply(power, used, reply, reply_size);
	atomic_set(&power->request_busy, 0);
unlock:
	mutex_unlock(&power->request_lock);
	return error;
}

int power_crash(struct power_device *power, const char *text)
{
	static struct {
		struct virtio_power_crash head;
		char text[CRASH_TEXT_MAX];
	} crash;
	size_t length = strnlen(text, sizeof(crash.text));
	u32 used;
	int error, i;

	if (power->broken || atomic_cmpxchg(&power->request_busy, 0, 1))
		return -EBUSY;
	crash.head.text_size = cpu_to_le32(length);
	memcpy(crash.text, text, length);
	error = power_send(power, VIRTIO_POWER_REQ_CRASH, &crash, sizeof(crash.head) + length,
			   GFP_ATOMIC);
	if (error)
		return error;
	for (i = 0; i < CRASH_POLLS; i++) {
		if (virtqueue_get_buf(power->requests, &used))
			return power_take_reply(power, used, NULL, 0);
		udelay(CRASH_POLL_US);
	}
	return -ETIMEDOUT;
}

void power_emergency(struct power_device *power, u32 code)
{
	__le32 value = cpu_to_le32(code);

	/* Not virtio_cwrite_le(): that one might sleep. */
	if (virtio_has_feature(power->vdev, VIRTIO_POWER_F_EMERGENCY))
		power->vdev->config->set(power->vdev,
					 offsetof(struct virtio_power_config, emergency), &value,
					 sizeof(value));
}

static int power_read_list(struct power_device *power, u16 list, u32 first, u32 count, void *reply,
			   size_t reply_size)
{
	struct virtio_power_range range = {
		.first = cpu_to_le32(first),
		.count = cpu_to_le32(count),
	};

	return power_request(power, list, &range, sizeof(range), reply, reply_size);
}

/* Entries of a later revision are longer: only the first `size` bytes are of interest. */
int power_read_entry(struct power_device *power, u16 list, u32 index, void *entry, size_t size)
{
	struct virtio_power_list *reply;
	int error;

	reply = kmalloc(sizeof(*reply) + size, GFP_KERNEL);
	if (!reply)
		return -ENOMEM;
	error = power_read_list(power, list, index, 1, reply, sizeof(*reply) + size);
	if (!error && (le32_to_cpu(reply->count) != 1 || le32_to_cpu(reply->first) != index ||
		       le32_to_cpu(reply->entry_size) < size))
		error = -EPROTO;
	if (!error)
		memcpy(entry, reply + 1, size);
	kfree(reply);
	return error;
}

int power_list_length(struct power_device *power, u16 list)
{
	struct virtio_power_list head;
	u32 total;
	int error = power_read_list(power, list, 0, 1, &head, sizeof(head));

	if (error)
		return error;
	total = le32_to_cpu(head.total);
	return total <= 4096 ? total : -EPROTO;
}

int power_acknowledge(struct power_device *power, u32 sequence, u32 verdict, u32 reason)
{
	struct virtio_power_acknowledge answer = {
		.sequence = cpu_to_le32(sequence),
		.verdict = cpu_to_le32(verdict),
		.reason = cpu_to_le32(reason),
	};

	return power_request(power, VIRTIO_POWER_REQ_ACKNOWLEDGE, &answer, sizeof(answer), NULL, 0);
}

u32 power_reason(int error)
{
	switch (error) {
	case -EBUSY:
		return VIRTIO_POWER_REASON_BUSY;
	case -EOPNOTSUPP:
	case -EPERM:
		return VIRTIO_POWER_REASON_UNSUPPORTED;
	case -ENODEV:
	case -ENOENT:
		return VIRTIO_POWER_REASON_ABSENT;
	default:
		return VIRTIO_POWER_REASON_FAILED;
	}
}

/* Tells user space: VIRTIO_POWER=what, STATE=state, INDEX=index where there is one. */
void power_uevent(struct power_device *power, const char *what, const char *state, int index)
{
	char kind[32], value[32], number[32];
	char *env[4] = { kind, value };

	snprintf(kind, sizeof(kind), "VIRTIO_POWER=%s", what);
	snprintf(value, sizeof(value), "STATE=%s", state);
	if (index >= 0) {
		snprintf(number, sizeof(number), "INDEX=%d", index);
		env[2] = number;
	}
	kobject_uevent_env(&power->vdev->dev.kobj, KOBJ_CHANGE, env);
}

static void power_requests_done(struct virtqueue *vq)
{
	struct power_device *power = vq->vdev->priv;

	complete(&power->request_done);
}

static void power_events_came(struct virtqueue *vq)
{
	struct power_device *power = vq->vdev->priv;

	if (!READ_ONCE(power->stopping))
		queue_work(power->wq, &power->event_work);
}

static int power_give_event(struct power_device *power, struct virtio_power_event *event)
{
	struct scatterlist sg;

	sg_init_one(&sg, event, sizeof(*event));
	return virtqueue_add_inbuf(power->events, &sg, 1, event, GFP_KERNEL);
}

static void power_event(struct power_device *power, const struct virtio_power_event *event)
{
	u32 index = le32_to_cpu(event->index), state = le32_to_cpu(event->state);
	u32 sequence = le32_to_cpu(event->sequence);

	switch (le16_to_cpu(event->kind)) {
	case VIRTIO_POWER_EVENT_MACHINE:
		power_machine_event(power, state, sequence);
		break;
	case VIRTIO_POWER_EVENT_SLOT:
		power_slot_event(power, index, state, le32_to_cpu(event->generation), sequence);
		break;
	case VIRTIO_POWER_EVENT_CPU:
		power_cpu_event(power, index, state, sequence);
		break;
	}
}

static void power_event_work(struct work_struct *work)
{
	struct power_device *power = container_of(work, struct power_device, event_work);
	struct virtio_power_event *buffer, event;
	u32 used;

	do {
		virtqueue_disable_cb(power->events);
		while ((buffer = virtqueue_get_buf(power->events, &used))) {
			event = *buffer;
			if (power_give_event(power, buffer))
				dev_warn_once(&power->vdev->dev, "an event buffer was lost\n");
			if (used >= sizeof(event))
				power_event(power, &event);
		}
	} while (!virtqueue_enable_cb(power->events));
	virtqueue_kick(power->events);
}

static int power_find_queues(struct power_device *power)
{
	struct virtqueue *vqs[2];
	int error;
#ifdef VIRTIO_POWER_HAVE_VIRTQUEUE_INFO
	struct virtqueue_info info[] = {
		[VIRTIO_POWER_VQ_REQUEST] = { "requests", power_requests_done },
		[VIRTIO_POWER_VQ_EVENT] = { "events", power_events_came },
	};

	error = virtio_find_vqs(power->vdev, ARRAY_SIZE(vqs), vqs, info, NULL);
#else
	vq_callback_t *callbacks[] = { power_requests_done, power_events_came };
	static const char *const names[] = { "requests", "events" };

	error = virtio_find_vqs(power->vdev, ARRAY_SIZE(vqs), vqs, callbacks, names, NULL);
#endif
	if (error)
		return error;
	power->requests = vqs[VIRTIO_POWER_VQ_REQUEST];
	power->events = vqs[VIRTIO_POWER_VQ_EVENT];
	return 0;
}

static struct power_device *power_alloc(struct virtio_device *vdev)
{
	struct power_device *power = kzalloc(sizeof(*power), GFP_KERNEL);

	if (!power)
		return NULL;
	power->vdev = vdev;
	power->request = kzalloc(VIRTIO_POWER_REQUEST_MAX, GFP_KERNEL);
	power->reply = kzalloc(POWER_REPLY_MAX, GFP_KERNEL);
	power->event_buffers = kcalloc(EVENT_BUFFERS, sizeof(*power->event_buffers), GFP_KERNEL);
	/* Unbound and concurrent: a device that is stuck in one slot holds up no other. */
	power->wq = alloc_workqueue("virtio_power", WQ_UNBOUND, 0);
	mutex_init(&power->request_lock);
	init_completion(&power->request_done);
	spin_lock_init(&power->lock);
	INIT_WORK(&power->event_work, power_event_work);
	return power;
}

static void power_free(struct power_device *power)
{
	if (power->wq)
		destroy_workqueue(power->wq);
	kfree(power->event_buffers);
	kfree(power->reply);
	kfree(power->request);
	kfree(power);
}

/* From here on nothing of the device's is touched. */
static void power_silence(struct power_device *power)
{
	struct virtio_device *vdev = power->vdev;

	virtio_reset_device(vdev);
	cancel_work_sync(&power->event_work);
	vdev->config->del_vqs(vdev);
}

static int power_start(struct power_device *power)
{
	int error, i;

	error = power_cpus_start(power);
	if (error)
		return error;
	error = power_slots_start(power);
	if (error)
		goto stop_cpus;
	error = power_sysfs_start(power);
	if (error)
		goto stop_slots;
	error = power_system_start(power);
	if (error)
		goto stop_sysfs;
	/* Last: events find everything there is to hear of them. */
	for (i = 0; i < EVENT_BUFFERS && power->events->num_free; i++)
		if (power_give_event(power, &power->event_buffers[i]))
			break;
	virtqueue_kick(power->events);
	return 0;

stop_sysfs:
	power_sysfs_stop(power);
stop_slots:
	power_slots_stop(power);
stop_cpus:
	power_cpus_stop(power);
	return error;
}

static int power_probe(struct virtio_device *vdev)
{
	struct power_device *power;
	u16 revision;
	int error;

	virtio_cread_le(vdev, struct virtio_power_config, revision, &revision);
	if (revision < VIRTIO_POWER_REVISION)
		return -ENODEV;
	power = power_alloc(vdev);
	if (!power)
		return -ENOMEM;
	error = -ENOMEM;
	if (!power->request || !power->reply || !power->event_buffers || !power->wq)
		goto free;
	vdev->priv = power;
	error = power_find_queues(power);
	if (error)
		goto free;
	virtio_device_ready(vdev);
	error = power_start(power);
	if (error)
		goto silence;
	return 0;

silence:
	power_silence(power);
free:
	power_free(power);
	return error;
}

static void power_remove(struct virtio_device *vdev)
{
	struct power_device *power = vdev->priv;

	/* No more events; requests still work, for what is under way. */
	WRITE_ONCE(power->stopping, true);
	cancel_work_sync(&power->event_work);
	power_system_stop(power);
	power_sysfs_stop(power);
	power_cpus_stop(power);
	power_slots_stop(power);
	power_silence(power);
	power_free(power);
}

static const struct virtio_device_id power_ids[] = {
	{ VIRTIO_ID_POWER, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, power_ids);

static const unsigned int power_features[] = {
	VIRTIO_POWER_F_SLOTS,
	VIRTIO_POWER_F_CPUS,
	VIRTIO_POWER_F_SUSPEND,
	VIRTIO_POWER_F_EMERGENCY,
};

static struct virtio_driver power_driver = {
	.driver.name = KBUILD_MODNAME,
	.driver.owner = THIS_MODULE,
	.feature_table = power_features,
	.feature_table_size = ARRAY_SIZE(power_features),
	.id_table = power_ids,
	.probe = power_probe,
	.remove = power_remove,
};
module_virtio_driver(power_driver);

MODULE_DESCRIPTION("virtio-power: power, enumeration and hot-plug of a virtio-desktop machine");
MODULE_LICENSE("GPL");
