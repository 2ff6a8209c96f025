/* SPDX-License-Identifier: MIT
 * The usual surroundings of the C core: a POSIX process. */
#ifndef VDESKTOP_HOST_H
#define VDESKTOP_HOST_H

#include "vdesktop/abi.h"

#define VD_LOG_COMPONENT_MAX 32
#define VD_LOG_MESSAGE_MAX   220

/* One log message, as it is written to the log descriptor. Smaller than
 * PIPE_BUF, so that records of several threads never mix (pipe(7)). Strings end
 * with a NUL and are cut to fit. */
struct vd_log_record {
    int32_t level; /* enum vd_log_level */
    char component[VD_LOG_COMPONENT_MAX];
    char message[VD_LOG_MESSAGE_MAX];
};

/* log_fd: a non-blocking pipe or datagram socket that somebody reads, or -1. A
 * record that does not fit is dropped and counted; logging never blocks. The
 * descriptor stays the caller's and must outlive the host. NULL: no memory. */
struct vd_host *vd_host_posix_new(int log_fd);
void vd_host_posix_free(struct vd_host *host);
uint64_t vd_host_posix_dropped(const struct vd_host *host);

#endif
