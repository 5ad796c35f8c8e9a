using System.Runtime.InteropServices;

namespace NormLayers.Benchmarks;

/// <summary>A set's operands with their groups contiguous: the operands themselves, or transposed copies.</summary>
internal sealed unsafe class GroupedOperands<T> where T : unmanaged
{
    private readonly (nint Outer, nint Rows, nint Columns)? memory;
    private readonly List<T[]> copies = [];

    public GroupedOperands((nint Outer, nint Rows, nint Columns)? memory, OperandSet<T> set)
    {
        this.memory = memory;
        X = Grouped(set.Reads[0]);
        Second = Grouped(set.Reads[1]);
        Result = Grouped(set.Writes[0]);
        if (set.Reads.Length > 2)
        {
            Third = Grouped(set.Reads[2]);
            Sum = Grouped(set.Writes[1]);
        }
    }

    public T* X { get; }

    /// <summary>dy, or forward the residual.</summary>
    public T* Second { get; }

    /// <summary>The gradient of the sum.</summary>
    public T* Third { get; }

    /// <summary>y or dx.</summary>
    public T* Result { get; }

    public T* Sum { get; }

    /// <summary>x + residual.</summary>
    public double RoundedSum(nint i) => Element.ToDouble(Element.From<T>((float)(Element.ToDouble(X[i]) + Element.ToDouble(Second[i]))));

    /// <summary>Until here the copies are not collected.</summary>
    public void KeepAlive() => GC.KeepAlive(copies);

    private T* Grouped(Operand<T> operand)
    {
        if (memory is not var (outer, rows, columns))
            return operand.Address;
        T[] copy = GC.AllocateUninitializedArray<T>((int)operand.Tensor.FlattenedLength, pinned: true);
        copies.Add(copy);
        T* source = operand.Address, result = (T*)Marshal.UnsafeAddrOfPinnedArrayElement(copy, 0);
        Parts.Run(outer * columns, (first, end) =>
        {
            for (nint i = first; i < end; i++)
            {
                nint block = i / columns, column = i % columns;
                for (nint row = 0; row < rows; row++)
                    result[i * rows + row] = source[(block * rows + row) * columns + column];
            }
        });
        return result;
    }
}
