/* The system calls of NVIDIA's user-space driver during cuInit, in its order, on files that every machine has.

   Returns 0, or the number of the step that failed (its errno in *code), as cuInit would return 304. What the
   driver treats as "not there" is treated so here; any other errno of such a call is a failure. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define STEP(number) do { step = (number); errno = 0; } while (0)
#define NEED(what) do { if (!(what)) goto failed; } while (0)
#define MISSING(what, answer) do { if ((what) == 0 || errno != (answer)) goto failed; } while (0)

struct started { int ready; pid_t id; };

static void *event_thread(void *shared)
{
    struct started *mine = shared;
    uint64_t one;
    mine->id = syscall(SYS_gettid);
    prctl(PR_SET_NAME, "cuda-EvtHandlr");
    if (read(mine->ready, &one, sizeof one) < 0)
        return (void *)1;
    return NULL;
}

int fake_cuInit(int *code)
{
    int step = 0, end = 0;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    char path[64];

    /* 1 to 4: is the device shared by MPS? A seqpacket socket to its control daemon, which is absent. */
    STEP(1);
    int control = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    NEED(control >= 0);
    STEP(2);
    int on = 1;
    NEED(setsockopt(control, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    STEP(3);
    strcpy(name.sun_path, "/tmp/nvidia-mps/control");
    MISSING(connect(control, (struct sockaddr *)&name, sizeof name), ENOENT);
    close(control);

    /* 4: the link of a device node, for others; /dev/char does not exist in containers. */
    STEP(4);
    MISSING(symlink("../nvidiactl", "/dev/char/195:255"), ENOENT);

    /* 5 to 7: the device: plain nodes here. A request that the node does not know is answered by the node. */
    STEP(5);
    int device = open("/dev/zero", O_RDWR | O_CLOEXEC);
    NEED(device >= 0);
    NEED(fcntl(device, F_SETFD, FD_CLOEXEC) == 0);
    STEP(6);
    char request[72] = {0};
    NEED(ioctl(device, _IOWR('F', 210, request), request) == -1 && errno == ENOTTY);
    NEED(ioctl(device, 0x30000001, request) == -1 && errno == ENOTTY); /* UVM_INITIALIZE */
    STEP(7);
    void *window = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE, device, 0);
    NEED(window != MAP_FAILED);

    /* 8: unified memory reserves addresses by the gigabyte, then backs a part of them. */
    STEP(8);
    void *range = mmap(NULL, 8ull << 30, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    NEED(range != MAP_FAILED);
    NEED(mprotect(range, 1 << 20, PROT_READ | PROT_WRITE) == 0);
    memset(range, 1, 1 << 20);

    /* 9: where memory goes among the nodes; a kernel without NUMA has none of these calls. */
    STEP(9);
    unsigned long nodes[16] = {0};
    int policy = 0;
    NEED(syscall(SYS_get_mempolicy, &policy, nodes, 1024ul, NULL, 0ul) == 0 || errno == ENOSYS);
    NEED(syscall(SYS_mbind, range, 1ul << 20, 0, NULL, 0ul, 0u) == 0 || errno == ENOSYS);
    NEED(syscall(SYS_set_mempolicy, 0, NULL, 0ul) == 0 || errno == ENOSYS);
    cpu_set_t cores;
    NEED(sched_getaffinity(0, sizeof cores, &cores) == 0 && sched_setaffinity(0, sizeof cores, &cores) == 0);

    /* 10: memory that is shared by a descriptor, pinned, and tied to an event. */
    STEP(10);
    int memory = memfd_create("nvidia", MFD_CLOEXEC);
    NEED(memory >= 0 && ftruncate(memory, 1 << 16) == 0);
    void *shared = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    NEED(shared != MAP_FAILED && mlock(shared, 4096) == 0 && munlock(shared, 4096) == 0);

    /* 11: the second socket takes an abstract name and listens; nobody has come yet. */
    STEP(11);
    int server = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    NEED(server >= 0);
    NEED(setsockopt(server, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    memset(&name, 0, sizeof name);
    name.sun_family = AF_UNIX;
    int length = snprintf(name.sun_path + 1, sizeof name.sun_path - 1, "cuda-uvmfd-4026531836-%d", getpid());
    NEED(bind(server, (struct sockaddr *)&name, sizeof(sa_family_t) + 1 + length) == 0);
    STEP(12);
    NEED(listen(server, 16) == 0);
    STEP(13);
    socklen_t size = sizeof on;
    NEED(getsockopt(server, SOL_SOCKET, SO_PASSCRED, &on, &size) == 0 && on == 1);
    STEP(14);
    NEED(accept4(server, NULL, NULL, SOCK_CLOEXEC) == -1 && (errno == EAGAIN || errno == EWOULDBLOCK));

    /* 15: messages on a socket that has no other end: the kernel answers, the sandbox does not. */
    STEP(15);
    char byte = 0;
    struct iovec one = {&byte, 1};
    struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1};
    int lonely = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    NEED(lonely >= 0);
    NEED(sendmsg(lonely, &message, MSG_NOSIGNAL) == -1 && errno == ENOTCONN);
    NEED(recvmsg(lonely, &message, MSG_DONTWAIT) == -1 && errno == ENOTCONN);

    /* 16 to 18: a thread that waits for events, named from outside by its file. */
    STEP(16);
    struct started thread = {eventfd(0, EFD_CLOEXEC), 0};
    pthread_t events;
    NEED(thread.ready >= 0 && pthread_create(&events, NULL, event_thread, &thread) == 0);
    while (__atomic_load_n(&thread.id, __ATOMIC_ACQUIRE) == 0)
        sched_yield();
    STEP(17);
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", (int)thread.id);
    int comm = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    NEED(comm >= 0 && write(comm, "cuda00001400006", 15) == 15 && close(comm) == 0);
    STEP(18);
    int waits = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event wanted = {.events = EPOLLIN};
    NEED(waits >= 0 && epoll_ctl(waits, EPOLL_CTL_ADD, server, &wanted) == 0);
    NEED(epoll_wait(waits, &wanted, 1, 0) == 0);
    uint64_t wake = 1;
    void *result = NULL;
    NEED(write(thread.ready, &wake, sizeof wake) == sizeof wake && pthread_join(events, &result) == 0 && !result);

    /* 19: what it looks for on the machine and does without. */
    STEP(19);
    struct stat found;
    NEED(stat("/usr/local/nvidia", &found) == 0 || errno == ENOENT);
    NEED(open("/proc/driver/nvidia/params", O_RDONLY) >= 0 || errno == ENOENT);
    *code = 0;
    return 0;

failed:
    end = errno;
    *code = end;
    return step;
}
