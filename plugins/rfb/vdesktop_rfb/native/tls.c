/* SPDX-License-Identifier: MIT
 * TLS through OpenSSL 3, on the client's own thread. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "libraries.h"

enum { /* <openssl/ssl.h> */
       SSL_FILETYPE_PEM = 1,
       SSL_ERROR_WANT_READ = 2,
       SSL_ERROR_WANT_WRITE = 3,
       SSL_ERROR_ZERO_RETURN = 6,
       SSL_CTRL_MODE = 33,
       SSL_MODE_ENABLE_PARTIAL_WRITE = 1,
       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 2,
       SSL_CTRL_SET_MIN_PROTO_VERSION = 123,
       TLS1_2_VERSION = 0x0303,
};

struct tls_context {
    const struct libraries *l;
    void *context;
};

struct tls {
    const struct libraries *l;
    void *ssl;
    bool wants_write;
};

void tls_context_free(struct tls_context *context) {
    if (!context)
        return;
    if (context->context)
        context->l->SSL_CTX_free(context->context);
    free(context);
}

struct tls_context *tls_context_new(const struct libraries *l, const char *certificate,
                                    const char *key, char *problem, size_t size, int *error) {
    struct tls_context *context = calloc(1, sizeof *context);
    const char *what = NULL;
    *error = -ENOMEM;
    if (!context)
        return NULL;
    context->l = l;
    context->context = l->SSL_CTX_new(l->TLS_server_method());
    if (!context->context) {
        free(context);
        return NULL;
    }
    l->SSL_CTX_ctrl(context->context, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
    l->SSL_CTX_ctrl(context->context, SSL_CTRL_MODE,
                    SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, NULL);
    /* Nobody resumes a session. And TigerVNC 1.12 waits for ever for what follows a ticket in the
     * same segment: our first words. */
    l->SSL_CTX_set_num_tickets(context->context, 0);
    if (l->SSL_CTX_use_certificate_chain_file(context->context, certificate) != 1)
        what = certificate;
    else if (l->SSL_CTX_use_PrivateKey_file(context->context, key, SSL_FILETYPE_PEM) != 1 ||
             l->SSL_CTX_check_private_key(context->context) != 1)
        what = key;
    if (what) {
        const char *reason = l->ERR_reason_error_string(l->ERR_get_error());
        snprintf(problem, size, "%s: %s", what, reason ? reason : "OpenSSL does not take it");
        l->ERR_clear_error();
        tls_context_free(context);
        *error = -EPROTO;
        return NULL;
    }
    *error = 0;
    return context;
}

struct tls *tls_new(struct tls_context *context, int fd) {
    struct tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return NULL;
    tls->l = context->l;
    tls->ssl = tls->l->SSL_new(context->context);
    if (!tls->ssl || tls->l->SSL_set_fd(tls->ssl, fd) != 1) {
        tls_free(tls);
        return NULL;
    }
    return tls;
}

void tls_free(struct tls *tls) {
    if (!tls)
        return;
    if (tls->ssl)
        tls->l->SSL_free(tls->ssl);
    free(tls);
}

/* The result of a call as errno has it: EAGAIN, or EIO for good. */
static ssize_t outcome(struct tls *tls, int result) {
    int error = result > 0 ? 0 : tls->l->SSL_get_error(tls->ssl, result);
    tls->wants_write = error == SSL_ERROR_WANT_WRITE;
    if (result > 0)
        return result;
    if (error == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
    return -1;
}

static int clamp(size_t n) {
    return n < INT_MAX ? (int)n : INT_MAX;
}

int tls_handshake(struct tls *tls) {
    tls->l->ERR_clear_error();
    ssize_t result = outcome(tls, tls->l->SSL_accept(tls->ssl));
    return result > 0 ? 1 : result < 0 && errno == EAGAIN ? 0 : -1;
}

ssize_t tls_read(struct tls *tls, void *to, size_t n) {
    tls->l->ERR_clear_error();
    return outcome(tls, tls->l->SSL_read(tls->ssl, to, clamp(n)));
}

ssize_t tls_write(struct tls *tls, const void *from, size_t n) {
    tls->l->ERR_clear_error();
    ssize_t result = outcome(tls, tls->l->SSL_write(tls->ssl, from, clamp(n)));
    if (result == 0)
        errno = EIO;
    return result ? result : -1;
}

bool tls_wants_write(const struct tls *tls) {
    return tls->wants_write;
}
