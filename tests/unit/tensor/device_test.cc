#include "lib/tensor/device.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "lib/base/error.h"

namespace lathe {
namespace {

std::string message_for(const std::string& device) {
  try {
    resolve_device(device);
  } catch (const UserError& error) {
    return error.what();
  }
  return "no UserError";
}

bool machine_has_gpu() { return std::filesystem::exists("/dev/nvidiactl"); }

TEST(Device, CpuAndAuto) {
  EXPECT_EQ(describe_device(resolve_device("cpu")), "cpu");
  const c10::Device best = resolve_device("auto");
  EXPECT_TRUE(best.is_cpu() || best == c10::Device(c10::kCUDA, 0)) << describe_device(best);
  EXPECT_TRUE(best.is_cpu() || machine_has_gpu());
}

TEST(Device, UnknownSpellings) {
  for (const char* device : {"tpu", "", "CPU", "cpu:0", "cuda0", "cuda-0", "gpu", "cuda "}) {
    EXPECT_EQ(message_for(device),
              "device '" + std::string(device) + "': expected auto, cpu, cuda or cuda:N");
  }
  for (const char* device : {"cuda:", "cuda:x", "cuda:-1", "cuda:0x", "cuda: 0", "cuda:99999999999"}) {
    EXPECT_EQ(message_for(device), "device '" + std::string(device) + "': expected a number after 'cuda:'");
  }
}

TEST(Device, CudaWithoutAGpuSaysWhatToDo) {
  if (machine_has_gpu()) GTEST_SKIP() << "this machine has a GPU";
  for (const char* device : {"cuda", "cuda:0", "cuda:7"}) {
    const std::string message = message_for(device);
    EXPECT_TRUE(message.starts_with("device '" + std::string(device) + "': ")) << message;
    EXPECT_TRUE(message.find("no NVIDIA driver or GPU was found") != message.npos ||
                message.find("CUDA library can't be opened") != message.npos)
        << message;
    EXPECT_TRUE(message.ends_with("; use --device cpu")) << message;
    EXPECT_EQ(message.find('\n'), message.npos) << message;
  }
}

TEST(Device, AProcessorHasTheNameThatTheSystemGivesIt) {
  std::ifstream file("/proc/cpuinfo");
  const std::string info{std::istreambuf_iterator<char>(file), {}};
  const std::string name = device_model(c10::Device(c10::kCPU));
  const bool named = info.find("model name") != std::string::npos;
  EXPECT_TRUE(named ? info.find(": " + name + "\n") != std::string::npos : name == "unknown") << name;
}

TEST(DeviceGpu, HasTheNameThatTheDriverGivesIt) {
  if (!resolve_device("auto").is_cuda()) GTEST_SKIP() << "no GPU that works";
  const std::string name = device_model(resolve_device("cuda"));
  EXPECT_TRUE(name != "unknown" && !name.empty()) << name;
}

TEST(DeviceGpu, CudaNumberBeyondTheMachine) {
  if (!resolve_device("auto").is_cuda()) GTEST_SKIP() << "no GPU that works";
  EXPECT_EQ(describe_device(resolve_device("cuda")), "cuda:0");
  EXPECT_NE(message_for("cuda:100").find("numbered from 0"), std::string::npos);
}

}  // namespace
}  // namespace lathe
