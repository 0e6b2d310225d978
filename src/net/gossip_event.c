/* What gossip tells the application, and messages waiting for its verdict. See gossip.h. */
#include <stdlib.h>

#include "net/gossip_internal.h"

/* CAL_ENOMEM. */
int gossip_tell(cal_gossip *gossip, gossip_event_kind kind, gossip_peer *peer, cal_slice topic,
                gossip_message *message, uint64_t ticket) {
    gossip_news *news = calloc(1, sizeof *news + topic.len);
    if (!news) return CAL_ENOMEM;
    news->kind = kind;
    news->peer = peer;
    if (peer) news->from = peer->id;
    news->message = message;
    news->ticket = ticket;
    news->topic_len = topic.len;
    if (topic.len) memcpy(news->topic, topic.data, topic.len);
    if (message) message->refs++;
    cal_list_push(&gossip->news, &news->link);
    gossip->news_count++;
    return 0;
}

static void news_free(gossip_news *news) {
    if (!news) return;
    if (news->message) gossip_message_unref(news->message);
    free(news);
}

bool gossip_next_event(cal_gossip *gossip, gossip_event *ret_event) {
    news_free(gossip->current);
    gossip->current = NULL;
    cal_list *link = cal_list_pop(&gossip->news);
    if (!link) return false;
    gossip_news *news = CAL_CONTAINER_OF(link, gossip_news, link);
    gossip->news_count--;
    gossip->current = news;
    *ret_event = (gossip_event){.kind = news->kind,
                                .peer = news->peer,
                                .topic = {news->topic, news->topic_len},
                                .from = news->from,
                                .ticket = news->ticket};
    if (news->message) {
        ret_event->topic = news->message->topic_name;
        ret_event->from = news->message->from;
        ret_event->seqno = news->message->seqno;
        ret_event->data = news->message->data;
        ret_event->id = news->message->id;
    }
    return true;
}

/* News for the application outlive the peer that they are about. */
void gossip_events_forget(gossip_peer *peer) {
    cal_gossip *gossip = peer->gossip;
    for (cal_list *at = gossip->news.next, *next; at != &gossip->news; at = next) {
        gossip_news *news = CAL_CONTAINER_OF(at, gossip_news, link);
        next = at->next;
        if (news->peer != peer) continue;
        news->peer = NULL;
        if (news->kind != GOSSIP_READY && news->kind != GOSSIP_CLOSE) continue;
        cal_list_remove(at);
        gossip->news_count--;
        news_free(news);
    }
}

static void waiting_free(cal_gossip *gossip, gossip_waiting *waiting) {
    cal_list_remove(&waiting->link);
    gossip->waiting_count--;
    gossip->waiting_bytes -= waiting->message->frame.len;
    gossip_message_unref(waiting->message);
    free(waiting);
}

void gossip_events_free(cal_gossip *gossip) {
    gossip_event event;
    while (gossip_next_event(gossip, &event)) continue;
    while (!cal_list_empty(&gossip->waiting))
        waiting_free(gossip, CAL_CONTAINER_OF(gossip->waiting.next, gossip_waiting, link));
}

/* Asks the application. CAL_ELIMIT, CAL_ENOMEM. */
int gossip_wait(gossip_peer *source, gossip_message *message) {
    cal_gossip *gossip = source->gossip;
    if (gossip->waiting_count >= GOSSIP_VALIDATIONS_MAX ||
        gossip->waiting_bytes + message->frame.len > GOSSIP_VALIDATION_BYTES_MAX) {
        gossip->stats.validations_refused++;
        return CAL_ELIMIT;
    }
    gossip_waiting *waiting = calloc(1, sizeof *waiting);
    if (!waiting) return CAL_ENOMEM;
    waiting->ticket = ++gossip->next_ticket;
    if (gossip_tell(gossip, GOSSIP_VALIDATE, source, (cal_slice){0}, message, waiting->ticket)) {
        free(waiting);
        return CAL_ENOMEM;
    }
    waiting->deadline = gossip->now + GOSSIP_VALIDATE_NS;
    waiting->source = source->id;
    waiting->message = message;
    message->refs++;
    cal_list_push(&gossip->waiting, &waiting->link);
    gossip->waiting_count++;
    gossip->waiting_bytes += message->frame.len;
    return 0;
}

int gossip_validated(cal_gossip *gossip, uint64_t ticket, cal_p2p_verdict verdict,
                     uint64_t now_ns) {
    gossip_clock(gossip, now_ns);
    for (cal_list *at = gossip->waiting.next; at != &gossip->waiting; at = at->next) {
        gossip_waiting *waiting = CAL_CONTAINER_OF(at, gossip_waiting, link);
        if (waiting->ticket != ticket) continue;
        gossip_topic *topic = gossip_topic_find(gossip, waiting->message->topic_name);
        if (verdict == CAL_P2P_REJECT) gossip->stats.rejected++;
        if (verdict == CAL_P2P_IGNORE) gossip->stats.ignored++;
        if (verdict == CAL_P2P_ACCEPT) {
            gossip->stats.delivered++;
            if (topic && topic->own)
                gossip_accept(gossip, waiting->message, topic, &waiting->source);
        }
        waiting_free(gossip, waiting);
        return 0;
    }
    return CAL_ENOTFOUND;
}

void gossip_waiting_expire(cal_gossip *gossip) {
    while (!cal_list_empty(&gossip->waiting)) {
        gossip_waiting *waiting = CAL_CONTAINER_OF(gossip->waiting.next, gossip_waiting, link);
        if (waiting->deadline > gossip->now) return;
        gossip->stats.validations_expired++;
        waiting_free(gossip, waiting);
    }
}
