/* A host with a libuv loop of its own, for programs that have none. See calimero/p2p.h. */
#include <assert.h>
#include <pthread.h>
#include <stdlib.h>
#include <uv.h>

#include "net/internal.h"
#include "net/tcp.h"

typedef struct p2p_post {
    cal_list link;
    void (*fn)(void *arg);
    void *arg;
} p2p_post;

struct p2p_loop {
    uv_loop_t uv;
    uv_async_t wake;
    pthread_mutex_t lock;
    cal_list posts;
    bool stop;   /* asked for */
    bool closed; /* under the lock: `wake` is no more */
    net_transport *transport;
    cal_p2p *host;
};

/* Runs what was posted. The lock is held, but not inside. */
static void run_posts(struct p2p_loop *loop) {
    for (cal_list *at; (at = cal_list_pop(&loop->posts));) {
        p2p_post *post = CAL_CONTAINER_OF(at, p2p_post, link);
        pthread_mutex_unlock(&loop->lock);
        post->fn(post->arg);
        free(post);
        pthread_mutex_lock(&loop->lock);
    }
}

/* From here on posts are refused; those that were taken are run, while there is a host. */
static void loop_close(struct p2p_loop *loop) {
    pthread_mutex_lock(&loop->lock);
    if (!loop->closed) uv_close((uv_handle_t *)&loop->wake, NULL);
    loop->closed = true;
    run_posts(loop);
    pthread_mutex_unlock(&loop->lock);
}

static void on_stopped(void *user) {
    struct p2p_loop *loop = user;
    /* The loop ends when the last goodbyes have left; the transport stays until the host is freed.
     */
    loop_close(loop);
}

static void on_async(uv_async_t *async) {
    struct p2p_loop *loop = async->data;
    pthread_mutex_lock(&loop->lock);
    bool stop = loop->stop;
    run_posts(loop);
    pthread_mutex_unlock(&loop->lock);
    if (stop && !loop->host->stopping) net_host_shutdown(loop->host, on_stopped, loop);
}

int cal_p2p_new(const cal_p2p_options *options, cal_p2p **ret_host, cal_error *err) {
    struct p2p_loop *loop = calloc(1, sizeof *loop);
    if (!loop) return cal_fail(err, CAL_ENOMEM, "no memory for a host");
    cal_list_init(&loop->posts);
    pthread_mutex_init(&loop->lock, NULL);
    if (uv_loop_init(&loop->uv)) {
        free(loop);
        return cal_fail(err, CAL_EIO, "cannot make an event loop: too many open files?");
    }
    uv_async_init(&loop->uv, &loop->wake, on_async);
    loop->wake.data = loop;
    int result = net_tcp_new(&loop->uv, &loop->transport);
    if (result)
        cal_fail(err, result, "no memory for a host");
    else
        result = net_host_new(options, loop->transport, cal_os_posix(), &loop->host, err);
    if (result) {
        loop_close(loop);
        p2p_loop_free(loop);
        return result;
    }
    loop->host->loop = loop;
    *ret_host = loop->host;
    return 0;
}

int cal_p2p_run(cal_p2p *host) {
    if (!host->loop || host->loop->closed) return CAL_ESTATE;
    cal_os_block_sigpipe();
    uv_run(&host->loop->uv, UV_RUN_DEFAULT);
    return 0;
}

void cal_p2p_stop(cal_p2p *host) {
    struct p2p_loop *loop = host->loop;
    if (!loop) return; /* a host on another's loop is stopped by net_host_shutdown */
    pthread_mutex_lock(&loop->lock);
    loop->stop = true;
    if (!loop->closed) uv_async_send(&loop->wake);
    pthread_mutex_unlock(&loop->lock);
}

int cal_p2p_post(cal_p2p *host, void (*fn)(void *arg), void *arg) {
    struct p2p_loop *loop = host->loop;
    if (!loop) return CAL_ESTATE;
    p2p_post *post = calloc(1, sizeof *post);
    if (!post) return CAL_ENOMEM;
    post->fn = fn;
    post->arg = arg;
    cal_list_init(&post->link);
    pthread_mutex_lock(&loop->lock);
    bool closed = loop->closed;
    if (!closed) {
        cal_list_push(&loop->posts, &post->link);
        uv_async_send(&loop->wake);
    }
    pthread_mutex_unlock(&loop->lock);
    if (closed) free(post);
    return closed ? CAL_ESTATE : 0;
}

void p2p_loop_free(struct p2p_loop *loop) {
    assert(cal_list_empty(&loop->posts));
    net_tcp_free(loop->transport, NULL, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    uv_loop_close(&loop->uv);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

void cal_p2p_free(cal_p2p *host) {
    if (!host) return;
    struct p2p_loop *loop = host->loop;
    cal_os_block_sigpipe(); /* it says goodbye, perhaps to those who are gone */
    if (loop) loop_close(loop);
    /* After a run the transport is gone with the loop's handles, and so is all that would use it.
     */
    net_host_free(host);
    if (loop) p2p_loop_free(loop);
}
