/* SPDX-License-Identifier: MIT */
#include "libraries.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

struct symbol {
    const char *name;
    size_t at; /* its pointer in struct libraries */
};
#define SYMBOL(name)                                                                               \
    { #name, offsetof(struct libraries, name) }

static const struct symbol ZLIB[] = {
    SYMBOL(deflateInit2_), SYMBOL(deflate),     SYMBOL(deflateParams),
    SYMBOL(deflateEnd),    SYMBOL(zlibVersion), {0},
};
static const struct symbol TURBOJPEG[] = {
    SYMBOL(tjInitCompress), SYMBOL(tjCompress2), SYMBOL(tjBufSize), SYMBOL(tjDestroy), {0},
};
static const struct symbol CRYPTO[] = {
    SYMBOL(EVP_des_ede3_ecb),
    SYMBOL(EVP_CIPHER_CTX_new),
    SYMBOL(EVP_CIPHER_CTX_free),
    SYMBOL(EVP_CIPHER_CTX_set_padding),
    SYMBOL(EVP_EncryptInit_ex),
    SYMBOL(EVP_EncryptUpdate),
    SYMBOL(CRYPTO_memcmp),
    SYMBOL(ERR_get_error),
    SYMBOL(ERR_clear_error),
    SYMBOL(ERR_reason_error_string),
    {0},
};
static const struct symbol SSL[] = {
    SYMBOL(TLS_server_method),
    SYMBOL(SSL_CTX_new),
    SYMBOL(SSL_CTX_free),
    SYMBOL(SSL_CTX_ctrl),
    SYMBOL(SSL_CTX_set_num_tickets),
    SYMBOL(SSL_CTX_use_certificate_chain_file),
    SYMBOL(SSL_CTX_use_PrivateKey_file),
    SYMBOL(SSL_CTX_check_private_key),
    SYMBOL(SSL_new),
    SYMBOL(SSL_free),
    SYMBOL(SSL_set_fd),
    SYMBOL(SSL_accept),
    SYMBOL(SSL_read),
    SYMBOL(SSL_write),
    SYMBOL(SSL_get_error),
    {0},
};

/* All of a library, or nothing. */
static void *open_library(struct libraries *l, const char *file, const struct symbol *symbols) {
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    for (; library && symbols->name; symbols++) {
        void *found = dlsym(library, symbols->name);
        if (!found) {
            dlclose(library);
            return NULL;
        }
        memcpy((char *)l + symbols->at, &found, sizeof found);
    }
    return library;
}

void libraries_open(struct libraries *l) {
    l->zlib = open_library(l, "libz.so.1", ZLIB);
    l->turbojpeg = open_library(l, "libturbojpeg.so.0", TURBOJPEG);
}

int libraries_open_ssl(struct libraries *l, char *problem, size_t size) {
    l->crypto = open_library(l, "libcrypto.so.3", CRYPTO);
    l->ssl = open_library(l, "libssl.so.3", SSL);
    if (l->crypto && l->ssl)
        return 0;
    snprintf(problem, size, "OpenSSL 3 is not installed: apt install libssl3");
    return -EPROTO;
}

void libraries_close(struct libraries *l) {
    void *all[] = {l->zlib, l->turbojpeg, l->ssl, l->crypto};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i])
            dlclose(all[i]);
}
