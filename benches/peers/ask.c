/* Sends one request, prints its reply, and ends: what udp-recv HOST PORT MESSAGE does, in plain C.
 * Status 0 when answered, 3 when not within five seconds, 4 when refused, 1 for other trouble. */
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static char reply[65536];
	struct addrinfo hints = { .ai_socktype = SOCK_DGRAM }, *there;
	ssize_t size;
	int fd;

	if (argc != 4 || getaddrinfo(argv[1], argv[2], &hints, &there))
		return 2;
	fd = socket(there->ai_family, SOCK_DGRAM, 0);
	if (fd < 0 || connect(fd, there->ai_addr, there->ai_addrlen))
		return 1;
	if (send(fd, argv[3], strlen(argv[3]), 0) < 0)
		return 1;
	if (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 5000) < 1)
		return 3;
	size = recv(fd, reply, sizeof reply - 1, 0);
	if (size < 0)
		return errno == ECONNREFUSED ? 4 : 1;
	if (size == 0 || reply[size - 1] != '\n')
		reply[size++] = '\n';
	return write(STDOUT_FILENO, reply, size) == size ? 0 : 1;
}
