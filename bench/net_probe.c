/* What the parts of a network figure cost on this machine: the primitives of a handshake, sealing,
 * and a TCP connection. The libraries are called as src/crypto calls them, without it. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "net_bench.h"

enum { READ_SIZE = 128 * 1024, TAG = 16, NONCE = 12 };

/* --- the handshake's primitives --- */

static void took(samples *times, uint64_t began) {
    samples_add(times, (double)(bench_now_ns() - began) / 1e3);
}

void crypto_probe_run(size_t rounds, crypto_times *times) {
    uint8_t secret[32], peer[32], shared[32], public_key[32], key[64], signature[64];
    if (sodium_init() < 0) bench_die("libsodium does not start");
    randombytes_buf(secret, sizeof secret);
    crypto_scalarmult_base(peer, secret);
    crypto_sign_keypair(public_key, key);
    for (size_t i = 0; i < rounds; i++) {
        uint64_t began = bench_now_ns();
        randombytes_buf(secret, sizeof secret);
        crypto_scalarmult_base(shared, secret);
        took(&times->keygen, began);
        began = bench_now_ns();
        if (crypto_scalarmult(shared, secret, peer)) bench_die("X25519 failed");
        took(&times->agree, began);
        began = bench_now_ns();
        crypto_sign_detached(signature, NULL, shared, sizeof shared, key);
        took(&times->sign, began);
        began = bench_now_ns();
        if (crypto_sign_verify_detached(signature, shared, sizeof shared, public_key))
            bench_die("Ed25519 failed");
        took(&times->verify, began);
    }
}

void crypto_times_free(crypto_times *times) {
    samples_free(&times->keygen);
    samples_free(&times->agree);
    samples_free(&times->sign);
    samples_free(&times->verify);
}

/* --- sealing --- */

void aead_probe_run(uint64_t bytes, samples *times) {
    uint8_t key[32] = {1}, nonce[NONCE] = {0};
    uint8_t *plain = calloc(1, NET_FRAME), *sealed = calloc(1, NET_FRAME + TAG);
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    if (!plain || !sealed || !ctx ||
        !EVP_CipherInit_ex2(ctx, EVP_chacha20_poly1305(), key, NULL, 1, NULL))
        bench_die("no memory for the cipher");
    uint64_t began = bench_now_ns();
    for (uint64_t done = 0; done < bytes; done += NET_FRAME) {
        int len;
        nonce[4]++;
        if (!EVP_EncryptInit_ex2(ctx, NULL, NULL, nonce, NULL) ||
            !EVP_EncryptUpdate(ctx, sealed, &len, plain, NET_FRAME) ||
            !EVP_EncryptFinal_ex(ctx, sealed + NET_FRAME, &len) ||
            !EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG, sealed + NET_FRAME))
            bench_die("sealing failed");
    }
    samples_add(times, (double)(bench_now_ns() - began) * 1024 / (double)bytes);
    EVP_CIPHER_CTX_free(ctx);
    free(plain);
    free(sealed);
}

/* --- TCP --- */

typedef struct tcp_sink {
    int fd;
    uint64_t bytes;
} tcp_sink;

static void *drain(void *user) {
    tcp_sink *sink = user;
    char *bytes = malloc(READ_SIZE);
    if (!bytes) bench_die("no memory");
    while (sink->bytes > 0) {
        ssize_t len = recv(sink->fd, bytes, READ_SIZE, 0);
        if (len <= 0) bench_die("the TCP probe broke: %s", strerror(errno));
        sink->bytes -= (uint64_t)len;
    }
    free(bytes);
    return NULL;
}

static void connected_pair(int ret_fds[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ret_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || ret_fds[0] < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 ||
        connect(ret_fds[0], (struct sockaddr *)&address, size) != 0 ||
        (ret_fds[1] = accept(listener, NULL, NULL)) < 0)
        bench_die("the TCP probe: %s", strerror(errno));
    close(listener);
    for (int i = 0; i < 2; i++) setsockopt(ret_fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

void tcp_probe_run(uint64_t bytes, samples *times) {
    int fds[2];
    char *piece = calloc(1, NET_FRAME + TAG);
    if (!piece) bench_die("no memory");
    connected_pair(fds);
    tcp_sink sink = {fds[1], bytes};
    pthread_t thread;
    uint64_t began = bench_now_ns(), left = bytes;
    if (pthread_create(&thread, NULL, drain, &sink) != 0) bench_die("no thread");
    while (left > 0) {
        size_t part = left < NET_FRAME + TAG ? (size_t)left : NET_FRAME + TAG;
        ssize_t sent = send(fds[0], piece, part, MSG_NOSIGNAL);
        if (sent <= 0) bench_die("the TCP probe broke: %s", strerror(errno));
        left -= (uint64_t)sent;
    }
    pthread_join(thread, NULL);
    samples_add(times, (double)(bench_now_ns() - began) * 1024 / (double)bytes);
    close(fds[0]);
    close(fds[1]);
    free(piece);
}

/* --- company --- */

/* Seconds that all processors together were at work, the time taken from this machine by others on
 * its host included. */
static double machine_busy_s(void) {
    unsigned long long user, nice_user, system, irq, soft_irq, steal;
    FILE *file = fopen("/proc/stat", "r");
    if (!file || fscanf(file, "cpu %llu %llu %llu %*u %*u %llu %llu %llu", &user, &nice_user,
                        &system, &irq, &soft_irq, &steal) != 6)
        bench_die("/proc/stat cannot be read");
    fclose(file);
    return (double)(user + nice_user + system + irq + soft_irq + steal) /
           (double)sysconf(_SC_CLK_TCK);
}

company company_begin(void) {
    struct timespec own;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
    return (company){bench_now_ns(), machine_busy_s(),
                     (double)own.tv_sec + (double)own.tv_nsec / 1e9};
}

double company_end(const company *c) {
    company now = company_begin();
    double others = now.busy_s - c->busy_s - (now.own_s - c->own_s);
    double passed = (double)(now.since_ns - c->since_ns) / 1e9;
    return others > 0 ? 100 * others / passed : 0;
}
