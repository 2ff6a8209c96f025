/* SPDX-License-Identifier: MIT
 * Several devices on one interrupt line: the line is high while any input is. */
#ifndef VDESKTOP_IRQ_SHARE_H
#define VDESKTOP_IRQ_SHARE_H

#include "vdesktop/abi.h"

#define VD_IRQ_SHARE_MAX 64

struct vd_irq_share;

/* `line` is copied. NULL: no memory, or more than VD_IRQ_SHARE_MAX inputs. */
struct vd_irq_share *vd_irq_share_new(const struct vd_host *host, const struct vd_irq *line,
                                      uint32_t inputs);
void vd_irq_share_free(struct vd_irq_share *share);
/* Valid until vd_irq_share_free; NULL: no such input. */
const struct vd_irq *vd_irq_share_input(struct vd_irq_share *share, uint32_t input);

#endif
