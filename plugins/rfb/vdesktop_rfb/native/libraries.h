/* SPDX-License-Identifier: MIT
 * Libraries that are looked for at run time, so that building needs a compiler
 * alone: what we use of their binary interfaces, which their major versions keep. */
#ifndef RFB_LIBRARIES_H
#define RFB_LIBRARIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* zlib 1.2, <zlib.h>. */
struct zlib_stream {
    const uint8_t *next_in;
    unsigned avail_in;
    unsigned long total_in;
    uint8_t *next_out;
    unsigned avail_out;
    unsigned long total_out;
    const char *msg;
    void *state;
    void *(*zalloc)(void *opaque, unsigned items, unsigned size);
    void (*zfree)(void *opaque, void *address);
    void *opaque;
    int data_type;
    unsigned long adler, reserved;
};
enum { ZLIB_SYNC_FLUSH = 2, ZLIB_DEFLATED = 8, ZLIB_OK = 0 };
enum { ZLIB_DEFAULT_STRATEGY = 0, ZLIB_HUFFMAN_ONLY = 2 };

/* TurboJPEG 2, <turbojpeg.h>. */
enum {
    JPEG_BGRX = 3,
    JPEG_RGBX = 2,
    JPEG_444 = 0,
    JPEG_422 = 1,
    JPEG_420 = 2,
    JPEG_FLAGS = 1024 | 2048
};

struct libraries {
    void *zlib, *turbojpeg, *ssl, *crypto; /* dlopen(3)'s */

    int (*deflateInit2_)(struct zlib_stream *stream, int level, int method, int window_bits,
                         int mem_level, int strategy, const char *version, int stream_size);
    int (*deflate)(struct zlib_stream *stream, int flush);
    int (*deflateParams)(struct zlib_stream *stream, int level, int strategy);
    int (*deflateEnd)(struct zlib_stream *stream);
    const char *(*zlibVersion)(void);

    void *(*tjInitCompress)(void);
    int (*tjCompress2)(void *handle, const unsigned char *pixels, int width, int pitch, int height,
                       int format, unsigned char **to, unsigned long *size, int subsampling,
                       int quality, int flags);
    unsigned long (*tjBufSize)(int width, int height, int subsampling);
    int (*tjDestroy)(void *handle);

    const void *(*EVP_des_ede3_ecb)(void);
    void *(*EVP_CIPHER_CTX_new)(void);
    void (*EVP_CIPHER_CTX_free)(void *context);
    int (*EVP_CIPHER_CTX_set_padding)(void *context, int pad);
    int (*EVP_EncryptInit_ex)(void *context, const void *cipher, void *engine,
                              const unsigned char *key, const unsigned char *iv);
    int (*EVP_EncryptUpdate)(void *context, unsigned char *out, int *out_length,
                             const unsigned char *in, int in_length);
    int (*CRYPTO_memcmp)(const void *a, const void *b, size_t length);
    unsigned long (*ERR_get_error)(void);
    void (*ERR_clear_error)(void);
    const char *(*ERR_reason_error_string)(unsigned long error);

    const void *(*TLS_server_method)(void);
    void *(*SSL_CTX_new)(const void *method);
    void (*SSL_CTX_free)(void *context);
    long (*SSL_CTX_ctrl)(void *context, int command, long value, void *pointer);
    int (*SSL_CTX_set_num_tickets)(void *context, size_t tickets);
    int (*SSL_CTX_use_certificate_chain_file)(void *context, const char *file);
    int (*SSL_CTX_use_PrivateKey_file)(void *context, const char *file, int type);
    int (*SSL_CTX_check_private_key)(const void *context);
    void *(*SSL_new)(void *context);
    void (*SSL_free)(void *ssl);
    int (*SSL_set_fd)(void *ssl, int fd);
    int (*SSL_accept)(void *ssl);
    int (*SSL_read)(void *ssl, void *to, int n);
    int (*SSL_write)(void *ssl, const void *from, int n);
    int (*SSL_get_error)(const void *ssl, int result);
};

/* zlib, and TurboJPEG: each may be missing. */
void libraries_open(struct libraries *libraries);
/* OpenSSL 3. 0, or -EPROTO and `problem`. */
int libraries_open_ssl(struct libraries *libraries, char *problem, size_t size);
void libraries_close(struct libraries *libraries);

/* password.c */
/* Whether a client's answer to a challenge shows that it knows the password. */
bool challenge_met(const struct libraries *l, const char *password, const uint8_t *challenge,
                   const uint8_t *response);
bool password_equal(const struct libraries *l, const char *password, const uint8_t *given,
                    size_t length);

/* tls.c. As read(2), write(2) on a non-blocking descriptor. */
struct tls_context;
struct tls;
/* NULL, *error = -EPROTO and `problem`. */
struct tls_context *tls_context_new(const struct libraries *l, const char *certificate,
                                    const char *key, char *problem, size_t size, int *error);
void tls_context_free(struct tls_context *context);       /* NULL is allowed */
struct tls *tls_new(struct tls_context *context, int fd); /* NULL: no memory */
void tls_free(struct tls *tls);                           /* NULL is allowed */
int tls_handshake(struct tls *tls); /* 1: done, 0: it goes on later, -1: failed */
ssize_t tls_read(struct tls *tls, void *to, size_t n);
ssize_t tls_write(struct tls *tls, const void *from, size_t n);
bool tls_wants_write(const struct tls *tls); /* to go on */

#endif
