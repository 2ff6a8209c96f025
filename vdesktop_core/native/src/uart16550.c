/* SPDX-License-Identifier: MIT
 * A 16550A as the PC16550D data sheet describes it, at infinite line speed:
 * whatever the guest writes has left the shift register at once. The host's side
 * is served on the loop's thread, so that no vCPU waits for a reader. */
#include "vdesktop/uart.h"

#include "escape.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define RX_FIFO   16u
#define TX_BUFFER 65536u /* what a slow reader may be behind */

/* Register offsets; with LCR_DLAB set, 0 and 1 are the divisor. */
enum reg { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

enum {
    IER_RX = 0x01,
    IER_THRE = 0x02,
    IER_LINE = 0x04,
    IER_MODEM = 0x08,
    IIR_NONE = 0x01,
    IIR_MODEM = 0x00,
    IIR_THRE = 0x02,
    IIR_RX = 0x04,
    IIR_LINE = 0x06,
    IIR_RX_TIMEOUT = 0x0c,
    IIR_FIFO = 0xc0,
    FCR_ENABLE = 0x01,
    FCR_CLEAR_RX = 0x02,
    LCR_DLAB = 0x80,
    MCR_DTR = 0x01,
    MCR_RTS = 0x02,
    MCR_OUT1 = 0x04,
    MCR_OUT2 = 0x08,
    MCR_LOOP = 0x10,
    LSR_DATA = 0x01,
    LSR_OVERRUN = 0x02,
    LSR_IDLE = 0x60, /* holding and shift register empty */
    MSR_CTS = 0x10,
    MSR_DSR = 0x20,
    MSR_RI = 0x40,
    MSR_DCD = 0x80,
};

struct vd_uart {
    struct vd_io io;
    const struct vd_host *host;
    struct vd_loop *loop;
    struct vd_irq irq;
    int in_fd, out_fd, kick_fd;
    struct escape escape;
    bool in_watched, out_watched; /* the loop's thread only */

    pthread_mutex_t lock; /* all below */
    uint8_t ier, fcr, lcr, mcr, msr_delta, scr, dll, dlm;
    bool overrun, thre_pending, level;
    uint8_t rx[RX_FIFO];
    uint32_t rx_head, rx_count;
    uint8_t tx[TX_BUFFER];
    uint32_t tx_head, tx_count;
    bool kicked;
    struct vd_uart_counters counters;
};

/* Lock held. */
static void kick(struct vd_uart *uart) {
    uint64_t one = 1;
    if (!uart->kicked)
        (void)!write(uart->kick_fd, &one, sizeof one);
    uart->kicked = true;
}

static uint8_t trigger_level(const struct vd_uart *uart) {
    static const uint8_t levels[4] = {1, 4, 8, 14};
    return uart->fcr & FCR_ENABLE ? levels[uart->fcr >> 6] : 1;
}

/* The interrupt of highest priority, as IIR shows it. */
static uint8_t interrupt_id(const struct vd_uart *uart) {
    if (uart->ier & IER_LINE && uart->overrun)
        return IIR_LINE;
    if (uart->ier & IER_RX && uart->rx_count)
        return uart->rx_count >= trigger_level(uart) ? IIR_RX : IIR_RX_TIMEOUT;
    if (uart->ier & IER_THRE && uart->thre_pending)
        return IIR_THRE;
    if (uart->ier & IER_MODEM && uart->msr_delta)
        return IIR_MODEM;
    return IIR_NONE;
}

static void update_irq(struct vd_uart *uart) {
    bool level = interrupt_id(uart) != IIR_NONE;
    if (level != uart->level)
        uart->irq.set(uart->irq.opaque, level);
    uart->level = level;
}

static void receive(struct vd_uart *uart, uint8_t byte) {
    if (uart->rx_count == (uart->fcr & FCR_ENABLE ? RX_FIFO : 1)) {
        uart->overrun = true;
        return;
    }
    uart->rx[(uart->rx_head + uart->rx_count++) % RX_FIFO] = byte;
}

static void transmit(struct vd_uart *uart, uint8_t byte) {
    uart->thre_pending = true; /* sent as soon as written */
    if (uart->mcr & MCR_LOOP) {
        receive(uart, byte);
        return;
    }
    if (uart->tx_count == TX_BUFFER || uart->out_fd < 0) {
        uart->counters.tx_dropped_bytes++;
        return;
    }
    uart->tx[(uart->tx_head + uart->tx_count++) % TX_BUFFER] = byte;
    kick(uart);
}

static uint8_t take_byte(struct vd_uart *uart) {
    if (!uart->rx_count)
        return 0;
    uint8_t byte = uart->rx[uart->rx_head];
    uart->rx_head = (uart->rx_head + 1) % RX_FIFO;
    if (--uart->rx_count == 0)
        kick(uart); /* room for more input */
    return byte;
}

static uint8_t modem_status(const struct vd_uart *uart) {
    if (!(uart->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((uart->mcr & MCR_RTS ? MSR_CTS : 0) | (uart->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (uart->mcr & MCR_OUT1 ? MSR_RI : 0) | (uart->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void set_mcr(struct vd_uart *uart, uint8_t value) {
    uint8_t before = modem_status(uart);
    uart->mcr = value & 0x1f;
    uart->msr_delta |= (uint8_t)((before ^ modem_status(uart)) >> 4);
}

static uint8_t reg_read(struct vd_uart *uart, enum reg reg) {
    bool divisor = uart->lcr & LCR_DLAB;
    uint8_t value = 0;
    switch (reg) {
    case REG_DATA:
        return divisor ? uart->dll : take_byte(uart);
    case REG_IER:
        return divisor ? uart->dlm : uart->ier;
    case REG_IIR_FCR:
        value = interrupt_id(uart);
        if (value == IIR_THRE)
            uart->thre_pending = false;
        return value | (uart->fcr & FCR_ENABLE ? IIR_FIFO : 0);
    case REG_LCR:
        return uart->lcr;
    case REG_MCR:
        return uart->mcr;
    case REG_LSR:
        value = LSR_IDLE | (uart->rx_count ? LSR_DATA : 0) | (uart->overrun ? LSR_OVERRUN : 0);
        uart->overrun = false;
        return value;
    case REG_MSR:
        value = modem_status(uart) | uart->msr_delta;
        uart->msr_delta = 0;
        return value;
    case REG_SCR:
        return uart->scr;
    }
    return value;
}

static void reg_write(struct vd_uart *uart, enum reg reg, uint8_t value) {
    bool divisor = uart->lcr & LCR_DLAB;
    switch (reg) {
    case REG_DATA:
        if (divisor)
            uart->dll = value;
        else
            transmit(uart, value);
        break;
    case REG_IER:
        if (divisor) {
            uart->dlm = value;
            break;
        }
        /* Enabling it while the transmitter is idle raises it: drivers start on that. */
        if (value & ~uart->ier & IER_THRE)
            uart->thre_pending = true;
        uart->ier = value & 0x0f;
        break;
    case REG_IIR_FCR:
        if (value & FCR_CLEAR_RX || (value ^ uart->fcr) & FCR_ENABLE)
            uart->rx_count = 0;
        uart->fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
        kick(uart);
        break;
    case REG_LCR:
        uart->lcr = value;
        break;
    case REG_MCR:
        set_mcr(uart, value);
        break;
    case REG_SCR:
        uart->scr = value;
        break;
    case REG_LSR: /* read-only */
    case REG_MSR:
        break;
    }
}

/* A wider access is one of each byte, as on a byte-wide bus. */
static uint64_t io_read(void *opaque, uint64_t offset, unsigned width) {
    struct vd_uart *uart = opaque;
    uint64_t value = 0;
    pthread_mutex_lock(&uart->lock);
    for (unsigned i = 0; i < width && offset + i < VD_UART_REGISTERS; i++)
        value |= (uint64_t)reg_read(uart, (enum reg)(offset + i)) << 8 * i;
    update_irq(uart);
    pthread_mutex_unlock(&uart->lock);
    return value;
}

static void io_write(void *opaque, uint64_t offset, unsigned width, uint64_t value) {
    struct vd_uart *uart = opaque;
    pthread_mutex_lock(&uart->lock);
    for (unsigned i = 0; i < width && offset + i < VD_UART_REGISTERS; i++)
        reg_write(uart, (enum reg)(offset + i), (uint8_t)(value >> 8 * i));
    update_irq(uart);
    pthread_mutex_unlock(&uart->lock);
}

static void on_in(void *opaque, uint32_t events);
static void on_out(void *opaque, uint32_t events);

static void watch_in(struct vd_uart *uart, bool on) {
    if (on && !uart->in_watched)
        uart->in_watched = !vd_loop_add(uart->loop, uart->in_fd, EPOLLIN, on_in, uart);
    if (!on && uart->in_watched) {
        vd_loop_remove(uart->loop, uart->in_fd);
        uart->in_watched = false;
    }
}

static void watch_out(struct vd_uart *uart, bool on) {
    if (on && !uart->out_watched)
        uart->out_watched = !vd_loop_add(uart->loop, uart->out_fd, EPOLLOUT, on_out, uart);
    if (!on && uart->out_watched) {
        vd_loop_remove(uart->loop, uart->out_fd);
        uart->out_watched = false;
    }
}

/* Writes what is buffered, as far as the reader takes it. */
static void flush(struct vd_uart *uart) {
    for (;;) {
        pthread_mutex_lock(&uart->lock);
        uint32_t head = uart->tx_head, n = uart->tx_count;
        pthread_mutex_unlock(&uart->lock);
        if (n > TX_BUFFER - head)
            n = TX_BUFFER - head;
        ssize_t done = n ? write(uart->out_fd, uart->tx + head, n) : 0;
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno == EAGAIN) {
            watch_out(uart, true);
            return;
        }
        watch_out(uart, false);
        if (!n)
            return;
        pthread_mutex_lock(&uart->lock);
        if (done < 0)
            uart->counters.tx_dropped_bytes += n;
        else
            uart->counters.tx_bytes += (uint64_t)done;
        uint32_t gone = done < 0 ? n : (uint32_t)done;
        uart->tx_head = (head + gone) % TX_BUFFER;
        uart->tx_count -= gone;
        pthread_mutex_unlock(&uart->lock);
    }
}

static void on_out(void *opaque, uint32_t events) {
    (void)events;
    flush(opaque);
}

static void on_in(void *opaque, uint32_t events) {
    struct vd_uart *uart = opaque;
    uint8_t bytes[RX_FIFO];
    (void)events;
    pthread_mutex_lock(&uart->lock);
    uint32_t room = (uart->fcr & FCR_ENABLE ? RX_FIFO : 1) - uart->rx_count;
    pthread_mutex_unlock(&uart->lock);
    ssize_t n = room ? read(uart->in_fd, bytes, room) : -1;
    if (!room || n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        watch_in(uart, false); /* full: until the guest reads; or the end of the input */
    if (n == 0) {
        close(uart->in_fd);
        uart->in_fd = -1;
    }
    if (n <= 0)
        return;
    size_t kept = escape_filter(&uart->escape, bytes, (size_t)n);
    pthread_mutex_lock(&uart->lock);
    for (size_t i = 0; i < kept; i++)
        receive(uart, bytes[i]);
    uart->counters.rx_bytes += kept;
    update_irq(uart);
    pthread_mutex_unlock(&uart->lock);
}

static void on_kick(void *opaque, uint32_t events) {
    struct vd_uart *uart = opaque;
    uint64_t count;
    (void)events;
    (void)!read(uart->kick_fd, &count, sizeof count);
    pthread_mutex_lock(&uart->lock);
    uart->kicked = false;
    bool room = uart->rx_count < (uart->fcr & FCR_ENABLE ? RX_FIFO : 1);
    pthread_mutex_unlock(&uart->lock);
    if (uart->out_fd >= 0)
        flush(uart);
    if (room && uart->in_fd >= 0)
        watch_in(uart, true);
}

static int dup_fd(int fd) {
    return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static void free_all(struct vd_uart *uart) {
    int fds[] = {uart->in_fd, uart->out_fd, uart->escape.fd, uart->kick_fd};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    pthread_mutex_destroy(&uart->lock);
    uart->host->free(uart->host->opaque, uart);
}

struct vd_uart *vd_uart_new(const struct vd_host *host, struct vd_loop *loop,
                            const struct vd_irq *irq, int in_fd, int out_fd, int escape_fd,
                            uint8_t escape, uint8_t escape_then) {
    struct vd_uart *uart = host->alloc(host->opaque, sizeof *uart);
    if (!uart)
        return NULL;
    uart->io = (struct vd_io){io_read, io_write, uart};
    uart->host = host;
    uart->loop = loop;
    uart->irq = *irq;
    pthread_mutex_init(&uart->lock, NULL);
    uart->in_fd = dup_fd(in_fd);
    uart->out_fd = dup_fd(out_fd);
    uart->escape = (struct escape){dup_fd(escape_fd), escape, escape_then, false};
    uart->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    bool missing = (in_fd >= 0 && uart->in_fd < 0) || (out_fd >= 0 && uart->out_fd < 0) ||
                   (escape_fd >= 0 && uart->escape.fd < 0);
    if (missing || vd_loop_add(loop, uart->kick_fd, EPOLLIN, on_kick, uart)) {
        free_all(uart);
        return NULL;
    }
    pthread_mutex_lock(&uart->lock); /* the loop's thread runs already */
    kick(uart);
    pthread_mutex_unlock(&uart->lock);
    return uart;
}

static void detach(void *opaque) {
    struct vd_uart *uart = opaque;
    if (uart->out_fd >= 0) {
        flush(uart);
        watch_out(uart, false);
    }
    if (uart->in_fd >= 0)
        watch_in(uart, false);
    vd_loop_remove(uart->loop, uart->kick_fd);
}

void vd_uart_free(struct vd_uart *uart) {
    if (!uart)
        return;
    vd_loop_call(uart->loop, detach, uart);
    free_all(uart);
}

const struct vd_io *vd_uart_io(struct vd_uart *uart) {
    return &uart->io;
}

void vd_uart_counters(struct vd_uart *uart, struct vd_uart_counters *counters) {
    pthread_mutex_lock(&uart->lock);
    *counters = uart->counters;
    pthread_mutex_unlock(&uart->lock);
}
