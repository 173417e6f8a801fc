/* covers: calls=clock_nanosleep,write kind=forwarded; breaks-when: a static position-independent
 * program cannot be moved whole */
#include "elf_image.h"

int main(int argc, char** argv) { return run_image(argc, argv, "elf_static_pie"); }
