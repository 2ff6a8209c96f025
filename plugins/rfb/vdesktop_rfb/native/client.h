/* SPDX-License-Identifier: MIT
 * One client, as its thread sees it. Only what is said to be under the server's
 * lock is touched by others. */
#ifndef RFB_CLIENT_H
#define RFB_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>

#include "libraries.h"
#include "rfb.h"
#include "vdesktop/display.h"
#include "wire.h"

enum {
    IN_SIZE = 16 << 10,                   /* the longest message that is parsed at once fits */
    OUT_SIZE = 1 << 20,                   /* sent when it is full, or the picture is complete */
    TILE_PIXELS = 1 << 17,                /* of the largest rectangle that is encoded at once */
    PACKED_SIZE = 4 * TILE_PIXELS + 4096, /* ZRLE has a byte more for each 64 x 64 pixels */
    TILE_WIDTH_MAX = 2048,                /* Tight allows no more */
    QUEUE_SIZE = 64,                      /* events of a client that nobody took */
    CONTROL_MAX = 8 << 20,                /* bytes of control messages that a client did not read */
    PENDING_MAX = 32,                     /* rectangles */
    FENCES_MAX = 2,                       /* pictures on their way under continuous updates */
    FRAME_NS = 4000000,                   /* between two pictures, at least */
    ZLIB_TIGHT = 0,                       /* .. 3: Tight's streams */
    ZLIB_ZRLE = 4,
    ZLIB_STREAMS = 5,
};

struct rfb_format { /* RFC 6143 §7.4 */
    uint8_t bits, depth, big_endian;
    uint16_t max[3]; /* red, green, blue */
    uint8_t shift[3];
};

/* What SetEncodings said. */
struct rfb_capabilities {
    int32_t encoding;
    int8_t quality; /* 0 .. 9, or -1: no JPEG */
    int8_t effort;  /* 0 .. 9, or -1 */
    bool desktop_size, extended_desktop_size, last_rect, cursor, cursor_alpha, qemu_key, qemu_led;
    bool fence, continuous, extended_mouse, extended_clipboard, vdesktop;
};

struct rfb_view {
    const struct vd_viewing *viewing;
    struct vd_surface surface; /* what it shows; a reference of ours */
    const uint8_t *base;       /* of the first pixel, or NULL */
    uint32_t x;                /* where it is in the framebuffer */
};

enum rfb_state {
    STATE_VERSION,
    STATE_SECURITY,
    STATE_VENCRYPT_VERSION,
    STATE_VENCRYPT_TYPE,
    STATE_TLS, /* handshake */
    STATE_CHALLENGE,
    STATE_PLAIN,
    STATE_INIT,
    STATE_NORMAL,
    STATE_SKIP, /* the rest of a message that is not taken */
    STATE_BLOB, /* the rest of a message that is taken as a whole */
};

struct rfb_websocket { /* where in the stream of frames we are */
    bool on;
    uint8_t header[WS_HEADER_MAX];
    uint8_t n_header;
    uint8_t opcode;
    bool in_frame, last; /* a header was read; the frame is the last of its message */
    bool in_message;     /* more fragments have to come */
    uint8_t mask[4];
    uint64_t left, done; /* bytes of this frame's payload */
    uint8_t control[WS_CONTROL_MAX];
    uint8_t reply[2 * (WS_CONTROL_MAX + 2)]; /* pongs and a close that wait to be sent */
    uint16_t n_reply;
};

enum rfb_pace_state {
    PACE_NONE,    /* no picture's way is measured */
    PACE_SENDING, /* one is */
    PACE_ASKED,   /* the client wants the next, although it cannot have all of it yet */
    PACE_SENT,    /* the client is to say that it has it */
};
struct rfb_pace { /* pace.c; rates in bytes a second */
    enum rfb_pace_state state;
    uint32_t before;                  /* answers that are to come before this picture's */
    uint64_t waited, ended, answered; /* ns: for the socket; when it was written; the last answer */
    uint64_t bytes;                   /* of the picture */
    uint64_t answers;                 /* rate at which pictures arrived, by the client's word */
    uint64_t link;                    /* what is believed */
    uint64_t saves;                   /* rate at which zlib makes pixels fewer */
    uint32_t raw_tiles;
    bool fell; /* `answers` did */
};

struct rfb_damage {
    uint32_t n;
    struct vd_rect rect[PENDING_MAX];
};

struct rfb_client {
    struct rfb_server *server;
    struct rfb_client *next; /* under the server's lock */
    int64_t id;
    int fd, wake_fd;
    uint32_t flags;
    pthread_t thread;

    /* Under the server's lock. */
    struct rfb_event queue[QUEUE_SIZE];
    uint32_t queued, queue_first;
    bool left, gone, queue_full; /* RFB_LEFT was queued; taken; the thread waits for room */
    bool kicked;
    uint8_t *control; /* messages to be sent */
    size_t n_control, control_room;
    uint32_t leds;
    struct rfb_stats stats_shared;

    /* The thread's. */
    enum rfb_state state;
    const char *failure; /* why it ends; NULL: it goes on */
    uint8_t minor;       /* of RFB 3 */
    uint32_t vencrypt;   /* the type chosen */
    uint8_t challenge[RFB_CHALLENGE_SIZE];
    uint64_t deadline; /* of the login, or 0 */
    bool logging_in;
    struct rfb_capabilities can;
    struct rfb_format format, next_format;
    struct rfb_capabilities next_can;
    bool format_changes, can_changes; /* taken over between two pictures */

    struct rfb_view view[RFB_SCREENS_MAX];
    uint32_t n_views;
    uint32_t width, height; /* of the framebuffer, as the client knows it */
    struct rfb_damage damage;
    struct vd_cursor cursor;
    struct vd_rect drawn;              /* where the cursor is part of the picture; empty: nowhere */
    uint32_t drawn_from;               /* the cursor's pixel that is its upper left corner */
    bool wants, wants_all, continuous; /* a picture was asked for; even if nothing changed */
    bool tell_size, tell_cursor, tell_leds, tell_extensions, end_continuous;
    uint32_t size_reason, size_status;
    uint32_t leds_told;
    uint32_t fences;
    uint64_t next_frame; /* not before */
    bool busy;           /* a message is half written */
    bool recheck;        /* there may be orders, although nobody wakes us */

    uint8_t in[IN_SIZE];
    size_t n_in;
    bool paused; /* the event queue is full: nothing is read */
    struct {
        uint64_t left; /* of the message, not yet here */
        uint8_t *data;
        size_t length, room;
        struct rfb_event event; /* what it becomes */
    } blob;

    uint8_t *out; /* WS_SERVER_HEADER_MAX bytes, then what is to be sent */
    size_t n_out, sent;
    bool sealed; /* being sent: nothing may be added */
    struct rfb_websocket ws;
    struct tls *tls;

    uint32_t *tile;  /* TILE_PIXELS, 0x00RRGGBB */
    uint8_t *packed; /* PACKED_SIZE: the same in an encoding's form */
    struct zlib_stream *zlib[ZLIB_STREAMS];
    int zlib_level[ZLIB_STREAMS], zlib_strategy[ZLIB_STREAMS];
    void *jpeg;
    uint8_t effort; /* enum rfb_effort, for so many more tiles */
    uint32_t effort_tiles;
    struct rfb_pace pace;
    struct rfb_stats stats;
};

/* server.c. For the events of one message there is room, or the client waits until it is woken. */
bool rfb_queue_has_room(struct rfb_client *c);
void rfb_post(struct rfb_client *c, const struct rfb_event *event);
bool rfb_login_allowed(struct rfb_client *c); /* there were not too many wrong ones */
void rfb_login_failed(struct rfb_client *c);
void rfb_login_succeeded(struct rfb_client *c);
/* What others want of the client; `control` (the caller's, to be freed) only where it is asked for.
 */
struct rfb_orders {
    bool kicked;
    uint32_t leds;
    uint8_t *control;
    size_t n_control;
};
void rfb_take_orders(struct rfb_client *c, struct rfb_orders *orders, bool control);
/* Has a message sent between two pictures; false: the client does not read. */
bool rfb_answer(struct rfb_client *c, const uint8_t *message, size_t length);
void rfb_publish_stats(struct rfb_client *c); /* for rfb_stats */
uint64_t rfb_now(void);
const struct libraries *rfb_libraries(const struct rfb_client *c);

/* client.c */
struct rfb_client *rfb_client_new(struct rfb_server *server, int fd, uint32_t flags,
                                  const struct vd_viewing *const *viewings, uint32_t n_viewings);
void rfb_client_free(struct rfb_client *c); /* not its thread */
/* One turn: reads, answers, shows, then waits for up to timeout_ms (-1: until there is
 * something); false: it is over. */
bool rfb_client_turn(struct rfb_client *c, int timeout_ms);
/* Ends the client; the first reason counts. */
void rfb_fail(struct rfb_client *c, const char *why);
/* Sends what is in `out`, waiting; meanwhile the client's messages are heard. */
void rfb_drain(struct rfb_client *c);

/* stream.c: bytes in and out, through TLS and WebSocket frames where there are any. */
/* Room for n bytes (n <= OUT_SIZE), to be filled and counted by rfb_wrote; drains what is there
 * where needed. NULL: the client is over. */
uint8_t *rfb_room(struct rfb_client *c, size_t n);
void rfb_wrote(struct rfb_client *c, const uint8_t *end);
void rfb_write(struct rfb_client *c, const void *data, size_t n);
/* Nothing is left to send. */
bool rfb_drained(const struct rfb_client *c);
/* Sends what can be sent now. */
void rfb_flush(struct rfb_client *c);
/* Reads what is there into `in`, as far as there is room, and hands it to rfb_parse. */
void rfb_read(struct rfb_client *c);
void rfb_parse(struct rfb_client *c);
void rfb_feed(struct rfb_client *c, uint8_t *bytes,
              size_t n); /* bytes of the socket's; changes them */
bool rfb_wants_write(const struct rfb_client *c);

/* websocket.c */
/* Takes payload out of frames, in place; returns how many bytes of it. */
size_t rfb_unframe(struct rfb_client *c, uint8_t *bytes, size_t n);
/* Writes a header for n bytes of payload that ends at `at`; returns its length. */
size_t rfb_frame_header(uint8_t *at, uint8_t opcode, size_t n);

/* login.c, messages.c: as much of `in` as is complete; return how many bytes, 0: more is needed. */
size_t rfb_login(struct rfb_client *c, const uint8_t *in, size_t n);
size_t rfb_message(struct rfb_client *c, const uint8_t *in, size_t n);
void rfb_greet(struct rfb_client *c);
bool rfb_tls_handshake(struct rfb_client *c); /* false: it waits for the client */
/* A message that is taken as a whole, piece by piece; false: the client is over. */
bool rfb_blob_add(struct rfb_client *c, const uint8_t *bytes, size_t n);
void rfb_blob_end(struct rfb_client *c);

/* encodings.c */
void rfb_set_encodings(struct rfb_capabilities *can, const uint8_t *codes, uint32_t n, bool zlib);

/* screens.c: the viewings as one framebuffer. */
void rfb_screens_take(struct rfb_client *c);
bool rfb_screens_size(const struct rfb_client *c, uint32_t *width, uint32_t *height);
/* Pixels of 32 bits, 0x00RRGGBB, row after row; `pixels` need not be aligned. */
void rfb_screens_fetch(const struct rfb_client *c, const struct vd_rect *rect, void *pixels);
void rfb_screens_drop(struct rfb_client *c);
/* Where a point of the framebuffer is: 0..32767 from left and top. */
void rfb_screens_locate(const struct rfb_client *c, uint32_t x, uint32_t y, uint32_t at[2]);
void rfb_damage_add(struct rfb_client *c, struct vd_rect rect); /* cut to the framebuffer */

/* cursor.c */
bool rfb_cursor_is_told(const struct rfb_client *c); /* the client draws it */
/* The cursor, its place, the screens or the client's abilities have changed. */
void rfb_cursor_refresh(struct rfb_client *c);
void rfb_cursor_send(struct rfb_client *c); /* to a client that draws it */
/* Over the pixels of a rectangle, as rfb_screens_fetch has them. */
void rfb_cursor_draw(const struct rfb_client *c, const struct vd_rect *rect, uint8_t *pixels);

/* pixel.c */
bool rfb_format_read(struct rfb_format *format, const uint8_t *wire);
void rfb_format_write(uint8_t *wire);
void rfb_format_default(struct rfb_format *format);
bool rfb_format_native(const struct rfb_format *format);
uint8_t *rfb_pack(const struct rfb_format *format, const uint32_t *pixels, size_t n, uint8_t *to);
uint8_t *rfb_pack_cpixel(const struct rfb_format *f, const uint32_t *pixels, size_t n, uint8_t *to);
uint8_t *rfb_pack_tpixel(const struct rfb_format *f, const uint32_t *pixels, size_t n, uint8_t *to);

/* update.c */
bool rfb_waits_for_picture(const struct rfb_client *c); /* would send one if there were news */
bool rfb_update_due(struct rfb_client *c);
void rfb_update(struct rfb_client *c);
/* Begins a rectangle of a picture: its header. */
void rfb_rectangle(struct rfb_client *c, const struct vd_rect *rect, int32_t encoding);

/* pace.c */
void rfb_pace_start(struct rfb_client *c);
/* A picture is to be written; it was; the client has asked for the next, or answered a fence. */
void rfb_pace_begin(struct rfb_client *c);
void rfb_pace_end(struct rfb_client *c);
void rfb_pace_answered(struct rfb_client *c);

/* encode.c: a rectangle of TILE_PIXELS at most. */
void rfb_encode(struct rfb_client *c, const struct vd_rect *rect);
void rfb_encoders_free(struct rfb_client *c);

#endif
