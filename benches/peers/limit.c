/* The least time that the lines of a file can be sent in: everything is laid out beforehand, and only
 * the calls are made that udp-send makes. Prints how many seconds the calls took.
 *
 *	limit PORT FILE
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <fcntl.h>
#include <time.h>

#define SEGMENTS 64		/* in a message */
#define LARGEST 65507		/* bytes in a message */
#define AT_ONCE (256 * 1024)	/* bytes in a call */
#define MESSAGES 512		/* in a call */
#define SLICES 4096		/* in a call */

struct control {
	struct cmsghdr header;
	unsigned short size;
};

int main(int argc, char **argv)
{
	struct sockaddr_in there = { .sin_family = AF_INET };
	struct stat file;
	struct timespec start, end;
	struct mmsghdr *messages;
	struct control *controls;
	struct iovec *slices;
	size_t lines = 0, n = 0, slice = 0, call = 0, *calls, calls_len = 0, call_bytes = 0, call_slices = 0;
	size_t first = 0, bytes = 0;
	char *text, *line;
	int fd;

	if (argc != 3)
		errx(2, "limit PORT FILE");
	fd = open(argv[2], O_RDONLY);
	if (fd < 0 || fstat(fd, &file))
		err(1, "%s", argv[2]);
	text = mmap(NULL, file.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	for (char *at = text; (at = memchr(at, '\n', text + file.st_size - at)); at++)
		lines++;
	slices = calloc(lines, sizeof *slices);
	messages = calloc(lines, sizeof *messages);
	controls = calloc(lines, sizeof *controls);
	calls = calloc(lines + 1, sizeof *calls);
	line = text;
	for (slice = 0; slice < lines; slice++) {
		char *stop = memchr(line, '\n', text + file.st_size - line);
		size_t size = stop - line;
		struct msghdr *last = n > call ? &messages[n - 1].msg_hdr : NULL;

		slices[slice].iov_base = line;
		slices[slice].iov_len = size;
		line = stop + 1;
		if (n == call || call_bytes + size > AT_ONCE || n - call == MESSAGES || call_slices == SLICES) {
			call = calls[calls_len++] = n;
			call_bytes = call_slices = 0;
			last = NULL;
		}
		call_bytes += size;
		call_slices++;
		if (last && bytes == last->msg_iovlen * first && size > 0 && size <= first
		    && last->msg_iovlen < SEGMENTS && bytes + size <= LARGEST) {
			last->msg_iovlen++;
			bytes += size;
		} else {
			messages[n].msg_hdr.msg_iov = &slices[slice];
			messages[n].msg_hdr.msg_iovlen = 1;
			first = bytes = size;
			n++;
		}
	}
	calls[calls_len] = n;
	for (size_t i = 0; i < n; i++) {
		struct msghdr *message = &messages[i].msg_hdr;

		if (message->msg_iovlen > 1) {
			controls[i].header.cmsg_level = SOL_UDP;
			controls[i].header.cmsg_type = UDP_SEGMENT;
			controls[i].header.cmsg_len = CMSG_LEN(sizeof controls[i].size);
			controls[i].size = message->msg_iov->iov_len;
			message->msg_control = &controls[i];
			message->msg_controllen = sizeof controls[i];
		}
	}
	there.sin_port = htons(atoi(argv[1]));
	there.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&there, sizeof there))
		err(1, "connect");
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (size_t i = 0; i < calls_len; i++)
		for (size_t done = calls[i]; done < calls[i + 1];) {
			int sent = sendmmsg(fd, messages + done, calls[i + 1] - done, 0);

			if (sent < 0)
				err(1, "sendmmsg");
			done += sent;
		}
	clock_gettime(CLOCK_MONOTONIC, &end);
	printf("%.6f\n", (end.tv_sec - start.tv_sec) + (end.tv_nsec - start.tv_nsec) / 1e9);
	return 0;
}
