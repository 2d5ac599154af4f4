/* The first and only process of a Linux that boots in an emulator: runs each line of the file /commands, in order,
 * until one fails, and tells the serial console how that went. What is on the other side of the console ends the
 * emulator. */
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

namespace {

// The exit status as a shell would give it.
int run(const std::string& line) {
  std::vector<std::string> words;
  std::istringstream stream(line);
  for (std::string word; stream >> word;) words.push_back(word);
  if (words.empty()) return 0;
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(&word[0]);
  arguments.push_back(nullptr);

  const pid_t child = fork();
  if (child == 0) {
    execv(arguments[0], arguments.data());
    std::perror(arguments[0]);
    _exit(127);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return 127;
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

int main() {
  std::ifstream commands("/commands");
  int status = commands ? 0 : 127;
  for (std::string line; status == 0 && std::getline(commands, line);) {
    std::printf("emulated> %s\n", line.c_str());
    std::fflush(stdout);
    status = run(line);
  }
  std::printf("emulated: exit status %d\n", status);
  std::fflush(stdout);
  // The kernel panics when its first process ends.
  for (;;) pause();
}
