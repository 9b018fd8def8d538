// SPDX-License-Identifier: GPL-2.0-or-later
/* rtt - how long a small request over TCP takes */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SIZE	64 /* bytes of a request, and of its answer */
#define WARM_UP 100
#define MOST	1000000

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}

static int die(const char *what)
{
	fprintf(stderr, "rtt: %s: %s\n", what, strerror(errno));
	return 1;
}

static bool get(int fd, char *buf)
{
	return recv(fd, buf, SIZE, MSG_WAITALL) == SIZE;
}

static bool put(int fd, const char *buf)
{
	return send(fd, buf, SIZE, MSG_NOSIGNAL) == SIZE;
}

static int serve(int fd)
{
	char buf[SIZE];
	int c, one = 1;

	if (listen(fd, 1))
		return die("listen");
	while ((c = accept(fd, NULL, NULL)) >= 0) {
		setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		while (get(c, buf) && put(c, buf))
			;
		close(c);
	}
	return die("accept");
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Asks for `seconds`, or MOST times; prints how often, the median and the 99th percentile in microseconds. */
static int ask(int fd, double seconds)
{
	static double took[MOST];
	double end = now() + seconds * 1e6, before;
	char buf[SIZE] = { 0 };
	size_t n = 0;

	for (int i = 0; n < MOST && now() < end; i++) {
		before = now();
		if (!put(fd, buf) || !get(fd, buf))
			return die("request");
		if (i >= WARM_UP)
			took[n++] = now() - before;
	}
	if (!n) {
		fprintf(stderr, "rtt: too few answers\n");
		return 1;
	}
	qsort(took, n, sizeof(*took), compare);
	printf("%zu %.1f %.1f\n", n, took[n / 2], took[n * 99 / 100]);
	return 0;
}

int main(int argc, char **argv)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM }, *ai;
	bool server = argc == 4 && !strcmp(argv[1], "serve");
	int fd, err, one = 1;

	if (!server && !(argc == 5 && !strcmp(argv[1], "ask"))) {
		fprintf(stderr, "usage: rtt serve ADDRESS PORT\n       rtt ask ADDRESS PORT SECONDS\n");
		return 2;
	}
	err = getaddrinfo(argv[2], argv[3], &hints, &ai);
	if (err) {
		fprintf(stderr, "rtt: %s: %s\n", argv[2], gai_strerror(err));
		return 1;
	}
	fd = socket(ai->ai_family, SOCK_STREAM, 0);
	if (fd < 0) {
		err = die("socket");
		goto out;
	}
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (server)
		err = bind(fd, ai->ai_addr, ai->ai_addrlen) ? die(argv[2]) : serve(fd);
	else
		err = connect(fd, ai->ai_addr, ai->ai_addrlen) ? die(argv[2]) : ask(fd, atof(argv[4]));
	close(fd);
out:
	freeaddrinfo(ai);
	return err;
}
