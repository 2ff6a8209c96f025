/* SPDX-License-Identifier: MIT
 * Config space of virtio-input (virtio 1.4 §5.8.4): the driver selects, the device shows. */
#include <string.h>

#include "input.h"

enum input_select {
    SELECT_NAME = 0x01,
    SELECT_SERIAL = 0x02,
    SELECT_DEVIDS = 0x03,
    SELECT_PROPERTIES = 0x10,
    SELECT_EVENT_BITS = 0x11,
    SELECT_ABS_INFO = 0x12,
};

struct input_config {
    uint8_t select, subsel, size, reserved[5];
    union {
        uint8_t bytes[VD_INPUT_NAME_MAX];
        uint16_t ids[4]; /* bustype, vendor, product, version */
        uint32_t abs[5]; /* min, max, fuzz, flat, resolution */
    } u;
};
_Static_assert(sizeof(struct input_config) == INPUT_CONFIG_LEN, "§5.8.4");

static size_t show_text(const char *text, struct input_config *config) {
    size_t len = strnlen(text, sizeof config->u.bytes);
    memcpy(config->u.bytes, text, len);
    return len;
}

static size_t show_bits(const struct vd_input *input, struct input_config *config) {
    for (uint32_t i = 0; i < input->n_types; i++)
        if (input->types[i].type == config->subsel) {
            memcpy(config->u.bytes, input->types[i].bits, input->types[i].size);
            return input->types[i].size;
        }
    return 0;
}

static size_t show_axis(const struct vd_input *input, struct input_config *config) {
    for (uint32_t i = 0; i < input->n_axes; i++) {
        const struct vd_input_axis *axis = &input->axes[i];
        if (axis->code != config->subsel)
            continue;
        const uint32_t abs[5] = {(uint32_t)axis->min, (uint32_t)axis->max, (uint32_t)axis->fuzz,
                                 (uint32_t)axis->flat, (uint32_t)axis->resolution};
        memcpy(config->u.abs, abs, sizeof abs);
        return sizeof abs;
    }
    return 0;
}

static size_t show(const struct vd_input *input, struct input_config *config) {
    if (config->select == SELECT_EVENT_BITS)
        return show_bits(input, config);
    if (config->select == SELECT_ABS_INFO)
        return show_axis(input, config);
    if (config->subsel)
        return 0;
    switch (config->select) {
    case SELECT_NAME:
        return show_text(input->name, config);
    case SELECT_SERIAL:
        return show_text(input->serial, config);
    case SELECT_DEVIDS:
        memcpy(config->u.ids, input->ids, sizeof input->ids);
        return sizeof input->ids;
    case SELECT_PROPERTIES:
        memcpy(config->u.bytes, &input->properties, sizeof input->properties);
        return input->properties ? sizeof input->properties : 0;
    default:
        return 0;
    }
}

void input_config_select(const struct vd_input *input, uint8_t config[INPUT_CONFIG_LEN]) {
    struct input_config shown = {.select = config[0], .subsel = config[1]};
    shown.size = (uint8_t)show(input, &shown);
    memcpy(config, &shown, sizeof shown);
}
