using System.Runtime.InteropServices;
using NormLayers.Cli;

using var interrupted = new CancellationTokenSource();

// The first signal lets the command remove its unfinished output; a second one ends the process at once.
void Interrupt(PosixSignalContext context)
{
    context.Cancel = !interrupted.IsCancellationRequested;
    interrupted.Cancel();
}

using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Interrupt);
using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Interrupt);
return Cli.Run(args, Console.Out, Console.Error, interrupted.Token);
