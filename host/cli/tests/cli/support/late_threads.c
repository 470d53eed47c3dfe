/* Lets each new thread sleep before its first instruction. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct thread {
    void *(*run)(void *);
    void *argument;
};

static void *begin(void *created) {
    struct thread thread = *(struct thread *)created;
    free(created);
    usleep(300000);
    return thread.run(thread.argument);
}

int pthread_create(pthread_t *id, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument) {
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        dlsym(RTLD_NEXT, "pthread_create");
    struct thread *thread = malloc(sizeof *thread);
    *thread = (struct thread){run, argument};
    return create(id, attributes, begin, thread);
}
