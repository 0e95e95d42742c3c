/* Keeps many requests in flight and measures their replies: what udp-recv --in-flight N does, in plain C.
 *
 *     ask_many ADDRESS PORT IN_FLIGHT REQUESTS [PORTS [send|sendto [HEX]]]
 *
 * Each request is sent from a port of its own, of PORTS (IN_FLIGHT by default) in turn, and is lost after a second.
 * HEX is the payload, "ping" by default. Prints requests/s, the round trips at p50, p90, p99 and p99.9 in
 * microseconds, how many were lost, and how many replies answered no request. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT 1000000000LL
#define EVENTS 256

struct port { int fd; uint64_t request; int64_t sent; }; /* request is 0 where none is in flight */
struct sent { int port; uint64_t request; int64_t time; };

static struct port *ports;
static int *idle, pool, idle_from, idle_len;	/* a ring of the ports that have no request in flight */
static struct sent *sent;			/* a ring of the requests in the order in which they were sent */
static uint64_t ring, sent_from, asked, total;
static struct sockaddr_in there;
static unsigned char payload[512] = "ping";
static size_t payload_len = 4;
static int is_connected;

static int64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_REALTIME, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void release(int port)
{
	ports[port].request = 0;
	idle[(idle_from + idle_len++) % pool] = port;
}

static void ask(void)
{
	int port = idle[idle_from];
	struct port *from = &ports[port];
	ssize_t size;

	idle_from = (idle_from + 1) % pool;
	idle_len--;
	from->request = ++asked;
	from->sent = now();
	sent[asked % ring] = (struct sent){ port, asked, from->sent };
	size = is_connected ? send(from->fd, payload, payload_len, 0)
		: sendto(from->fd, payload, payload_len, 0, (struct sockaddr *)&there, sizeof there);
	if (size < 0)
		fail("send");
}

static int compare(const void *a, const void *b)
{
	uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
	return one < other ? -1 : one > other;
}

int main(int argc, char **argv)
{
	static char reply[65536], control[256];
	struct epoll_event events[EVENTS];
	uint64_t answered = 0, lost = 0, late = 0;
	int in_flight, epoll, on = 1;
	struct rlimit limit;
	uint32_t *took;
	int64_t start, end;

	if (argc < 5 || inet_pton(AF_INET, argv[1], &there.sin_addr) != 1)
		return 2;
	there.sin_family = AF_INET;
	there.sin_port = htons(atoi(argv[2]));
	in_flight = atoi(argv[3]);
	total = strtoull(argv[4], NULL, 10);
	pool = argc > 5 ? atoi(argv[5]) : in_flight;
	is_connected = argc > 6 && !strcmp(argv[6], "send");
	if (in_flight < 1 || pool < in_flight || total < (uint64_t)in_flight)
		return 2;
	if (argc > 7)
		for (payload_len = 0; payload_len < sizeof payload; payload_len++)
			if (sscanf(argv[7] + 2 * payload_len, "%2hhx", payload + payload_len) != 1)
				break;
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	/* No more than this many are sent before the oldest of them is answered or lost. */
	ring = total + 1;
	ports = calloc(pool, sizeof *ports);
	idle = calloc(pool, sizeof *idle);
	sent = calloc(ring, sizeof *sent);
	took = calloc(total, sizeof *took);
	epoll = epoll_create1(0);
	for (int port = 0; port < pool; port++) {
		struct sockaddr_in here = { .sin_family = AF_INET };
		struct epoll_event event = { .events = EPOLLIN, .data.u32 = port };
		int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

		if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on))
			fail("socket");
		if (is_connected ? connect(fd, (struct sockaddr *)&there, sizeof there)
			: bind(fd, (struct sockaddr *)&here, sizeof here))
			fail("bind");
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event))
			fail("epoll_ctl");
		ports[port].fd = fd;
		release(port);
	}
	start = now();
	while (asked < (uint64_t)in_flight)
		ask();
	while (answered + lost < total) {
		int count = epoll_wait(epoll, events, EVENTS, 10);

		for (int n = 0; n < count; n++) {
			struct port *port = &ports[events[n].data.u32];
			struct iovec piece = { reply, sizeof reply };
			struct sockaddr_in from;
			struct msghdr message = { .msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &piece,
				.msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
			struct timespec time = { 0 };

			if (recvmsg(port->fd, &message, 0) < 0) {
				if (errno == EAGAIN)
					continue;
				fail("recvmsg");
			}
			for (struct cmsghdr *one = CMSG_FIRSTHDR(&message); one; one = CMSG_NXTHDR(&message, one))
				if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_TIMESTAMPNS)
					memcpy(&time, CMSG_DATA(one), sizeof time);
			if (!port->request || from.sin_port != there.sin_port
			    || from.sin_addr.s_addr != there.sin_addr.s_addr) {
				late++;
				continue;
			}
			took[answered++] = time.tv_sec * 1000000000LL + time.tv_nsec - port->sent;
			release(events[n].data.u32);
			if (asked < total)
				ask();
		}
		end = now();
		for (; sent_from < asked; sent_from++) {
			struct sent *oldest = &sent[(sent_from + 1) % ring];

			if (ports[oldest->port].request != oldest->request)
				continue;
			if (end - oldest->time < TIMEOUT)
				break;
			lost++;
			release(oldest->port);
			if (asked < total)
				ask();
		}
	}
	end = now();
	qsort(took, answered, sizeof *took, compare);
	printf("%.0f requests/s", answered / ((end - start) / 1e9));
	for (int n = 0; n < 4 && answered; n++)
		printf(", %s %.1f us", (char *[]){ "p50", "p90", "p99", "p99.9" }[n],
			took[(uint64_t)(answered * (double[]){ .5, .9, .99, .999 }[n])] / 1e3);
	printf(", %llu lost, %llu late\n", (unsigned long long)lost, (unsigned long long)late);
	return 0;
}
