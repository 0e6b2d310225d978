/* The thread that makes time pass for guests.
 *
 * Compiled code compares the engine's epoch with its own deadline at every loop and call. Raising
 * the epoch is all this thread does; the call's own thread then asks the clock (call.c). It sleeps
 * for good while no call has a deadline. */
#include <errno.h>
#include <time.h>

#include "vm/internal.h"

static void wait_one_tick(vm_ticker *ticker) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += VM_TICK_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    while (!ticker->stopping &&
           pthread_cond_timedwait(&ticker->changed, &ticker->mutex, &until) != ETIMEDOUT)
        continue;
}

static void *tick(void *user) {
    vm_ticker *ticker = user;
    pthread_mutex_lock(&ticker->mutex);
    while (!ticker->stopping) {
        if (ticker->calls == 0) {
            pthread_cond_wait(&ticker->changed, &ticker->mutex);
            continue;
        }
        wait_one_tick(ticker);
        wasmtime_engine_increment_epoch(ticker->engine);
    }
    pthread_mutex_unlock(&ticker->mutex);
    return NULL;
}

int vm_ticker_init(vm_ticker *ticker, wasm_engine_t *engine) {
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic) != 0) return CAL_ENOMEM;
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    int failed = pthread_cond_init(&ticker->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (failed) return CAL_ENOMEM;
    if (pthread_mutex_init(&ticker->mutex, NULL) != 0) {
        pthread_cond_destroy(&ticker->changed);
        return CAL_ENOMEM;
    }
    ticker->engine = engine;
    return 0;
}

void vm_ticker_deinit(vm_ticker *ticker) {
    if (!ticker->engine) return;
    if (ticker->started) {
        pthread_mutex_lock(&ticker->mutex);
        ticker->stopping = true;
        pthread_cond_signal(&ticker->changed);
        pthread_mutex_unlock(&ticker->mutex);
        pthread_join(ticker->thread, NULL);
    }
    pthread_mutex_destroy(&ticker->mutex);
    pthread_cond_destroy(&ticker->changed);
    ticker->engine = NULL;
}

int vm_ticker_enter(vm_ticker *ticker) {
    int code = 0;
    pthread_mutex_lock(&ticker->mutex);
    if (!ticker->started) {
        if (pthread_create(&ticker->thread, NULL, tick, ticker) == 0)
            ticker->started = true;
        else
            code = CAL_ENOMEM;
    }
    if (code == 0 && ticker->calls++ == 0) pthread_cond_signal(&ticker->changed);
    pthread_mutex_unlock(&ticker->mutex);
    return code;
}

void vm_ticker_leave(vm_ticker *ticker) {
    pthread_mutex_lock(&ticker->mutex);
    ticker->calls--;
    pthread_mutex_unlock(&ticker->mutex);
}
