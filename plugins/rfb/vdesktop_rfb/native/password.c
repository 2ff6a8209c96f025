/* SPDX-License-Identifier: MIT
 * Passwords: RFC 6143 §7.2.2, and plain ones. Compared in constant time. */
#include <string.h>

#include "libraries.h"
#include "wire.h"

/* The key is the password's first eight bytes, each with its bits the other way round: what the
 * first implementation did, and all since. */
static void make_key(const char *password, uint8_t key[RFB_PASSWORD_SIZE]) {
    size_t length = strnlen(password, RFB_PASSWORD_SIZE);
    memset(key, 0, RFB_PASSWORD_SIZE);
    for (size_t i = 0; i < length; i++)
        for (int bit = 0; bit < 8; bit++)
            key[i] |= (uint8_t)(((uint8_t)password[i] >> bit & 1) << (7 - bit));
}

bool challenge_met(const struct libraries *l, const char *password, const uint8_t *challenge,
                   const uint8_t *response) {
    uint8_t key[3 * RFB_PASSWORD_SIZE], expected[RFB_CHALLENGE_SIZE];
    int length = 0;
    /* DES is triple DES with the same key thrice; OpenSSL 3 has the single one in a module that
     * not every host installs. */
    for (int i = 0; i < 3; i++)
        make_key(password, key + (size_t)i * RFB_PASSWORD_SIZE);
    void *context = l->EVP_CIPHER_CTX_new();
    bool good =
        context && l->EVP_EncryptInit_ex(context, l->EVP_des_ede3_ecb(), NULL, key, NULL) == 1 &&
        l->EVP_CIPHER_CTX_set_padding(context, 0) == 1 &&
        l->EVP_EncryptUpdate(context, expected, &length, challenge, RFB_CHALLENGE_SIZE) == 1 &&
        length == RFB_CHALLENGE_SIZE &&
        l->CRYPTO_memcmp(expected, response, RFB_CHALLENGE_SIZE) == 0;
    l->EVP_CIPHER_CTX_free(context);
    explicit_bzero(key, sizeof key);
    explicit_bzero(expected, sizeof expected);
    return good;
}

bool password_equal(const struct libraries *l, const char *password, const uint8_t *given,
                    size_t length) {
    return length == strlen(password) && l->CRYPTO_memcmp(password, given, length) == 0;
}
