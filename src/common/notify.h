/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tells a service manager what state a daemon is in, by the protocol of sd_notify(3). */
#ifndef VGPU_COMMON_NOTIFY_H
#define VGPU_COMMON_NOTIFY_H

/*
 * Sends state ("READY=1", "STOPPING=1", "STATUS=...") to $NOTIFY_SOCKET. Returns 1 when it was
 * sent, 0 when there is nobody to tell, or a negative errno. Does not wait.
 */
int vgpu_notify(const char *state);

#endif
