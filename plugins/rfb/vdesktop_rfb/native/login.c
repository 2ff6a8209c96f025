/* SPDX-License-Identifier: MIT
 * From the greeting to ServerInit: RFC 6143 §7.1 to §7.3, and VeNCrypt. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "server.h"

enum { NAME_MAX_BYTES = 256, LOGIN_TEXT_MAX = 255 };
enum { RESULT_OK = 0, RESULT_FAILED = 1 };

void rfb_greet(struct rfb_client *c) {
    rfb_write(c, "RFB 003.008\n", RFB_VERSION_SIZE);
}

static void write32(struct rfb_client *c, uint32_t value) {
    uint8_t bytes[4];
    put32(bytes, value);
    rfb_write(c, bytes, sizeof bytes);
}

static void write_reason(struct rfb_client *c, const char *why) {
    write32(c, (uint32_t)strlen(why));
    rfb_write(c, why, strlen(why));
}

/* Says why, where this version of the protocol can. */
static void refuse(struct rfb_client *c, const char *why) {
    write32(c, RESULT_FAILED);
    if (c->minor >= 8)
        write_reason(c, why);
    rfb_fail(c, why);
}

static uint8_t security_of(const struct rfb_client *c) {
    if (c->flags & RFB_TRUSTED)
        return SECURITY_NONE;
    if (c->server->tls)
        return SECURITY_VENCRYPT;
    return c->server->config.password ? SECURITY_VNC : SECURITY_NONE;
}

static void challenge(struct rfb_client *c) {
    if (getrandom(c->challenge, sizeof c->challenge, 0) != (ssize_t)sizeof c->challenge)
        return rfb_fail(c, "the host has no random numbers");
    rfb_write(c, c->challenge, sizeof c->challenge);
    c->state = STATE_CHALLENGE;
}

static void logged_in(struct rfb_client *c, bool say) {
    if (say)
        write32(c, RESULT_OK);
    c->state = STATE_INIT;
}

static size_t version(struct rfb_client *c, const uint8_t *in) {
    uint32_t minor = 0;
    for (int i = 8; i < 11; i++) {
        if (in[i] < '0' || in[i] > '9')
            minor = 1000;
        minor = minor * 10 + in[i] - '0';
    }
    if (memcmp(in, "RFB 003.", 8) != 0 || in[11] != '\n' || minor > 999 || minor < 3) {
        rfb_fail(c, "it does not speak RFB 3");
        return RFB_VERSION_SIZE;
    }
    c->minor = minor >= 8 ? 8 : minor == 7 ? 7 : 3; /* §7.1.1: others count as 3.3 */
    uint8_t security = security_of(c);
    if (c->minor == 3) {
        if (security == SECURITY_VENCRYPT) {
            write32(c, SECURITY_INVALID);
            write_reason(c, "RFB 3.7 or newer is needed for TLS");
            rfb_fail(c, "it speaks RFB 3.3, which has no TLS");
            return RFB_VERSION_SIZE;
        }
        write32(c, security);
        if (security == SECURITY_VNC)
            challenge(c);
        else
            logged_in(c, false);
        return RFB_VERSION_SIZE;
    }
    rfb_write(c, (uint8_t[]){1, security}, 2);
    c->state = STATE_SECURITY;
    return RFB_VERSION_SIZE;
}

static void security(struct rfb_client *c, uint8_t chosen) {
    if (chosen != security_of(c))
        return refuse(c, "it chose a security type that was not offered");
    if (chosen == SECURITY_VENCRYPT) {
        rfb_write(c, (uint8_t[]){0, 2}, 2);
        c->state = STATE_VENCRYPT_VERSION;
    } else if (chosen == SECURITY_VNC) {
        challenge(c);
    } else {
        logged_in(c, c->minor >= 8);
    }
}

static void vencrypt_version(struct rfb_client *c, const uint8_t *in) {
    bool good = in[0] == 0 && in[1] == 2;
    rfb_write(c, (uint8_t[]){good ? 0 : 0xFF}, 1);
    if (!good)
        return rfb_fail(c, "it does not speak VeNCrypt 0.2");
    uint8_t offer[9], *to = offer;
    if (c->server->config.password) {
        to = put8(to, 2);
        to = put32(to, VENCRYPT_X509_PLAIN);
        to = put32(to, VENCRYPT_X509_VNC);
    } else {
        to = put8(to, 1);
        to = put32(to, VENCRYPT_X509_NONE);
    }
    rfb_write(c, offer, (size_t)(to - offer));
    c->state = STATE_VENCRYPT_TYPE;
}

static void vencrypt_type(struct rfb_client *c, uint32_t chosen) {
    bool password = c->server->config.password;
    bool good = password ? chosen == VENCRYPT_X509_PLAIN || chosen == VENCRYPT_X509_VNC
                         : chosen == VENCRYPT_X509_NONE;
    rfb_write(c, (uint8_t[]){good}, 1);
    if (!good)
        return rfb_fail(c, "it chose a VeNCrypt type that was not offered");
    c->vencrypt = chosen;
    rfb_drain(c);
    c->state = STATE_TLS;
    c->tls = tls_new(c->server->tls, c->fd);
    if (!c->tls)
        rfb_fail(c, "the host is out of memory");
}

bool rfb_tls_handshake(struct rfb_client *c) {
    int done = tls_handshake(c->tls);
    if (done < 0)
        rfb_fail(c, "the TLS handshake failed");
    if (done <= 0)
        return false;
    switch (c->vencrypt) {
    case VENCRYPT_X509_VNC:
        challenge(c);
        break;
    case VENCRYPT_X509_PLAIN:
        c->state = STATE_PLAIN;
        break;
    default:
        logged_in(c, c->minor >= 8);
    }
    return true;
}

static void judge(struct rfb_client *c, bool good) {
    /* A right password does not open a door that is closed: it would tell it is right. */
    if (!rfb_login_allowed(c))
        return refuse(c, "too many wrong passwords: try again later");
    if (!good) {
        rfb_login_failed(c);
        return refuse(c, "the password is wrong");
    }
    rfb_login_succeeded(c);
    logged_in(c, true);
}

static size_t plain(struct rfb_client *c, const uint8_t *in, size_t n) {
    if (n < 8)
        return 0;
    uint32_t user = get32(in), length = get32(in + 4);
    if (user > LOGIN_TEXT_MAX || length > LOGIN_TEXT_MAX) {
        refuse(c, "the name or the password is too long");
        return 8;
    }
    size_t size = 8 + (size_t)user + length;
    if (n < size)
        return 0;
    judge(c,
          password_equal(&c->server->libraries, c->server->config.password, in + 8 + user, length));
    return size;
}

static void init(struct rfb_client *c) {
    uint8_t message[24 + NAME_MAX_BYTES], *to = message;
    size_t length = strnlen(c->server->config.name, NAME_MAX_BYTES);
    c->width = 640, c->height = 480; /* of a machine that shows nothing yet */
    rfb_screens_take(c);
    rfb_screens_size(c, &c->width, &c->height);
    c->tell_size = false;
    c->damage.n = 0;
    rfb_damage_add(c, (struct vd_rect){0, 0, c->width, c->height});
    to = put16(put16(to, c->width), c->height);
    rfb_format_write(to);
    to = put32(to + 16, (uint32_t)length);
    memcpy(to, c->server->config.name, length);
    rfb_write(c, message, 24 + length);
    c->state = STATE_NORMAL;
    c->logging_in = false;
    rfb_post(c, &(struct rfb_event){.type = RFB_JOINED});
}

size_t rfb_login(struct rfb_client *c, const uint8_t *in, size_t n) {
    switch (c->state) {
    case STATE_VERSION:
        return n < RFB_VERSION_SIZE ? 0 : version(c, in);
    case STATE_SECURITY:
        security(c, in[0]);
        return 1;
    case STATE_VENCRYPT_VERSION:
        if (n < 2)
            return 0;
        vencrypt_version(c, in);
        return 2;
    case STATE_VENCRYPT_TYPE:
        if (n < 4)
            return 0;
        vencrypt_type(c, get32(in));
        return 4;
    case STATE_CHALLENGE:
        if (n < RFB_CHALLENGE_SIZE)
            return 0;
        judge(c,
              challenge_met(&c->server->libraries, c->server->config.password, c->challenge, in));
        return RFB_CHALLENGE_SIZE;
    case STATE_PLAIN:
        return plain(c, in, n);
    case STATE_INIT: /* whether to share: it always is */
        init(c);
        return 1;
    default:
        rfb_fail(c, "it spoke before its turn");
        return n;
    }
}
