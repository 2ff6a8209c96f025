/* SPDX-License-Identifier: MIT
 * A 16550A UART for first messages: byte registers, shift 0, MMIO or ports. */
#ifndef VDESKTOP_UART_H
#define VDESKTOP_UART_H

#include "vdesktop/abi.h"
#include "vdesktop/loop.h"

#define VD_UART_REGISTERS 8

struct vd_uart;

struct vd_uart_counters {
    uint64_t rx_bytes, tx_bytes;
    uint64_t tx_dropped_bytes; /* the reader of out_fd is slow or gone */
};

/* irq is copied. Descriptors are duplicated, O_NONBLOCK unless regular files;
 * -1: none. Typing `escape` and then `escape_then` writes escape_fd (-1: no
 * escape). NULL: out of memory or descriptors. */
struct vd_uart *vd_uart_new(const struct vd_host *host, struct vd_loop *loop,
                            const struct vd_irq *irq, int in_fd, int out_fd, int escape_fd,
                            uint8_t escape, uint8_t escape_then);
/* No vCPU may be in its handler any more. Writes what it can of the output. */
void vd_uart_free(struct vd_uart *uart);
const struct vd_io *vd_uart_io(struct vd_uart *uart);
void vd_uart_counters(struct vd_uart *uart, struct vd_uart_counters *counters);

#endif
