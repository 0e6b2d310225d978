/* POST /admin-api/backup {"path": FOLDER}: `merod backup` of a node that runs. A row of our own,
 * not of http-api.md. */
#ifndef CAL_API_ADMIN_BACKUP_H
#define CAL_API_ADMIN_BACKUP_H

#include "api/http.h"

/* HTTP_BODY_WHOLE. {"data":null} when the copy is whole and durable; 409 when the folder holds a
 * store already, 503 while another backup runs. */
void admin_backup(http_exchange *exchange);

#endif
