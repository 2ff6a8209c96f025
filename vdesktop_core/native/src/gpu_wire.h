/* SPDX-License-Identifier: MIT
 * What the gpu's driver and device say to each other (virtio 1.4 §5.7), as
 * data. All fields are little-endian, as is every host of the core (ring.h). */
#ifndef VD_GPU_WIRE_H
#define VD_GPU_WIRE_H

#include <stdint.h>

#include "vdesktop/gpu_renderer.h"

/* §5.7.2 */
enum { GPU_CONTROL_QUEUE = 0, GPU_CURSOR_QUEUE = 1, GPU_QUEUES = 2 };

/* §5.7.3, feature bits */
#define GPU_F_VIRGL         (UINT64_C(1) << 0)
#define GPU_F_EDID          (UINT64_C(1) << 1)
#define GPU_F_RESOURCE_UUID (UINT64_C(1) << 2)
#define GPU_F_RESOURCE_BLOB (UINT64_C(1) << 3)
#define GPU_F_CONTEXT_INIT  (UINT64_C(1) << 4)

/* §5.7.4 */
#define GPU_EVENT_DISPLAY 1u
struct gpu_config {
    uint32_t events_read, events_clear, num_scanouts, num_capsets;
};

/* §5.7.6.7 */
enum gpu_type {
    GPU_GET_DISPLAY_INFO = 0x0100,
    GPU_RESOURCE_CREATE_2D,
    GPU_RESOURCE_UNREF,
    GPU_SET_SCANOUT,
    GPU_RESOURCE_FLUSH,
    GPU_TRANSFER_TO_HOST_2D,
    GPU_RESOURCE_ATTACH_BACKING,
    GPU_RESOURCE_DETACH_BACKING,
    GPU_GET_CAPSET_INFO,
    GPU_GET_CAPSET,
    GPU_GET_EDID,
    GPU_RESOURCE_ASSIGN_UUID,
    GPU_RESOURCE_CREATE_BLOB,
    GPU_SET_SCANOUT_BLOB,
    GPU_CTX_CREATE = 0x0200,
    GPU_CTX_DESTROY,
    GPU_CTX_ATTACH_RESOURCE,
    GPU_CTX_DETACH_RESOURCE,
    GPU_RESOURCE_CREATE_3D,
    GPU_TRANSFER_TO_HOST_3D,
    GPU_TRANSFER_FROM_HOST_3D,
    GPU_SUBMIT_3D,
    GPU_UPDATE_CURSOR = 0x0300,
    GPU_MOVE_CURSOR,
    GPU_OK_NODATA = 0x1100,
    GPU_OK_DISPLAY_INFO,
    GPU_OK_CAPSET_INFO,
    GPU_OK_CAPSET,
    GPU_OK_EDID,
    GPU_OK_RESOURCE_UUID,
    GPU_ERR_UNSPEC = 0x1200,
    GPU_ERR_OUT_OF_MEMORY,
    GPU_ERR_INVALID_SCANOUT_ID,
    GPU_ERR_INVALID_RESOURCE_ID,
    GPU_ERR_INVALID_CONTEXT_ID,
    GPU_ERR_INVALID_PARAMETER,
};

#define GPU_FLAG_FENCE         1u
#define GPU_FLAG_INFO_RING_IDX 2u

struct gpu_header {
    uint32_t type, flags;
    uint64_t fence_id;
    uint32_t ctx_id;
    uint8_t ring_idx, padding[3];
};

struct gpu_rect {
    uint32_t x, y, width, height;
};

struct gpu_display {
    struct gpu_rect rect;
    uint32_t enabled, flags;
};

struct gpu_create_2d {
    struct gpu_header header;
    uint32_t resource, format, width, height;
};

/* RESOURCE_UNREF, RESOURCE_DETACH_BACKING, RESOURCE_ASSIGN_UUID */
struct gpu_resource_only {
    struct gpu_header header;
    uint32_t resource, padding;
};

struct gpu_set_scanout {
    struct gpu_header header;
    struct gpu_rect rect;
    uint32_t scanout, resource;
};

struct gpu_flush {
    struct gpu_header header;
    struct gpu_rect rect;
    uint32_t resource, padding;
};

struct gpu_transfer {
    struct gpu_header header;
    struct gpu_rect rect;
    uint64_t offset;
    uint32_t resource, padding;
};

/* Followed by `entries` times struct gpu_entry. */
struct gpu_attach {
    struct gpu_header header;
    uint32_t resource, entries;
};

struct gpu_entry {
    uint64_t addr;
    uint32_t length, padding;
};

struct gpu_get_edid {
    struct gpu_header header;
    uint32_t scanout, padding;
};

#define GPU_BLOB_MEM_GUEST 1u
/* Followed by `entries` times struct gpu_entry. */
struct gpu_create_blob {
    struct gpu_header header;
    uint32_t resource, memory, flags, entries;
    uint64_t blob_id, size;
};

struct gpu_set_scanout_blob {
    struct gpu_header header;
    struct gpu_rect rect;
    uint32_t scanout, resource, width, height, format, padding;
    uint32_t strides[4], offsets[4];
};

struct gpu_cursor {
    struct gpu_header header;
    uint32_t scanout, x, y, padding;
    uint32_t resource, hot_x, hot_y, padding2;
};

/* GET_CAPSET_INFO: index; GET_CAPSET: id, version */
struct gpu_get_capset {
    struct gpu_header header;
    uint32_t which, version;
};

#define GPU_CONTEXT_CAPSET_MASK 0xffu
#define GPU_DEBUG_NAME          64
struct gpu_ctx_create {
    struct gpu_header header;
    uint32_t name_len, context_init;
    char name[GPU_DEBUG_NAME];
};

struct gpu_create_3d {
    struct gpu_header header;
    struct vd_gpu_resource_3d resource; /* resource, target, format, bind … flags */
    uint32_t padding;
};

struct gpu_transfer_3d {
    struct gpu_header header;
    struct vd_gpu_transfer_3d transfer;
};

/* Followed by `size` bytes. */
struct gpu_submit {
    struct gpu_header header;
    uint32_t size, padding;
};

#define GPU_DISPLAYS 16
#define GPU_EDID_MAX 1024

struct gpu_edid_reply {
    uint32_t size, padding;
    uint8_t edid[GPU_EDID_MAX];
};

union gpu_command {
    struct gpu_header header;
    struct gpu_create_2d create_2d;
    struct gpu_resource_only resource;
    struct gpu_set_scanout set_scanout;
    struct gpu_flush flush;
    struct gpu_transfer transfer;
    struct gpu_attach attach;
    struct gpu_get_edid get_edid;
    struct gpu_create_blob create_blob;
    struct gpu_set_scanout_blob set_scanout_blob;
    struct gpu_cursor cursor;
    struct gpu_get_capset get_capset;
    struct gpu_ctx_create ctx_create;
    struct gpu_create_3d create_3d;
    struct gpu_transfer_3d transfer_3d;
    struct gpu_submit submit;
};

struct gpu_capset_info {
    uint32_t id, max_version, max_size, padding;
};

/* What follows the header of a reply. */
union gpu_reply {
    struct gpu_display display[GPU_DISPLAYS];
    struct gpu_edid_reply edid;
    uint8_t uuid[16];
    struct gpu_capset_info capset_info;
};

#endif
