/* covers: calls=clock_nanosleep,write kind=forwarded; breaks-when: a static program at fixed
 * addresses cannot be moved whole */
#include "elf_image.h"

int main(int argc, char** argv) { return run_image(argc, argv, "elf_static"); }
